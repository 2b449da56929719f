// Package resilience keeps what goes wrong in one dependency from spreading: it runs calls to a service, a process or an appliance under
// policies that decide when a call is let through, how long it may take, whether it is made again, and what is said when it fails. It
// knows nothing of what is called, so any program that talks to an unreliable peer can use it.
//
// # One call
//
// A program makes one [Guard] per dependency and passes every call through [Do]:
//
//	guard, err := resilience.NewGuard("pfsense", resilience.DefaultConfig(), resilience.Options{Logger: log})
//	…
//	rules, err := resilience.Do(ctx, guard, resilience.Call{Safety: resilience.ReadOnly}, client.Rules)
//
// On its way to client.Rules, and back, the call passes these policies, each inside the one before:
//
//	fallback          answers in the dependency's place when all else failed     [Fallback]
//	overall timeout   bounds everything below                                    [TimeoutsConfig]
//	retry             makes another attempt, where that is safe                  [RetryConfig]
//	hedge             asks a second time when a read-only answer is late         [HedgeConfig]
//	circuit breaker   refuses calls to what is known to be down                  [CircuitBreakerConfig]
//	rate limit        bounds how often calls start                               [RateLimitConfig]
//	bulkhead          bounds how many run, and the queue before them             [BulkheadConfig]
//	attempt timeout   bounds one attempt, from the end of the queue              [TimeoutsConfig]
//	recover           turns a panic into an error                                [PanicError]
//	classification    says what the attempt came to                              [Classifier]
//
// The order has reasons. The fallback is outside the overall timeout, or a call that timed out could never be answered. Retry is outside
// the breaker, so that each attempt counts and an open circuit ends the repetitions. The breaker is outside the limits, so that calls to a
// dead dependency take nobody's place. The attempt timeout is innermost, so that waiting for our own queue is not blamed on the
// dependency. Whoever wants a limit over several dependencies puts a Guard around the Guards.
//
// # What an attempt came to
//
// Everything depends on telling failures apart, and only the caller can. A [Classifier] says for each attempt, in an [Outcome], three
// things that have little to do with each other:
//
//   - What does it mean for the circuit? A [Failure] speaks against the dependency, a [Success] for it; much is [Ignored], because it says
//     nothing: a refused login, a caller that went away, our own full queue. What is ignored neither opens nor closes a circuit, nor does it
//     break a run of failures.
//   - May it be repeated? That follows from how far the request got ([Sent]) and from the call ([Safety]), never from the error alone. What
//     did not leave, and what the dependency says that it did not do, may be repeated always; anything else only if the call is [Idempotent] or
//     [ReadOnly]. The zero value of every such question is the safe answer: unknown is sent, and a call is unsafe.
//   - When may it be repeated? Not before the time that the dependency asked for, and not at all if that is longer than anybody wants to
//     wait: then the error says when to come back.
//
// Repetitions are paid for from a budget of tokens that calls and time earn, so that a dependency in trouble gets a fifth more load at
// most, not three times as much.
//
// # What the caller hears
//
// An error is either the dependency's own answer, untouched, or an [*Error] that says which policy ended the call ([Reason]), what went
// wrong (its class), whether the dependency may have acted on it ([Executed]), how many attempts were made, and when to try again. The
// dependency's own error is inside.
//
// # The life of a circuit
//
// A circuit is closed until consecutive failures, a failure rate or a rate of slow calls open it. Then it refuses calls for a time, which
// varies a little so that many callers do not return at once, grows from one failed trial to the next, and is, up to its limit, never
// shorter than what the dependency asked for. After that it is half-open: a few trial calls pass at the same time; some successes close it, any failure opens it
// again, and trials that do not end are given up. A prober ([Guard.Probe]) can find out that the dependency is back before any caller has
// to. By hand a circuit is opened, closed, reset, isolated or disabled ([Guard.Control]).
//
// An outcome counts only for the state in which its call was let in: what started before the circuit opened does not decide about the
// trials after it.
//
// # Time
//
// An attempt's context has a deadline, and its cause is a [*TimeoutError]. Work that reports how it gets on may take longer: [Progress]
// restarts the clock, within limits. Work that waits for a person stops it: [Pause]. Nothing here looks at the wall clock to measure time.
//
// # Knowing what goes on
//
// [Guard.Snapshot] reads everything about a dependency in one critical section, in microseconds, whatever hangs; [Report] sums up many.
// [Events] tells metrics of each attempt and change; [Guard.Errors] has the latest errors and counts of them. In mode "shadow" all of this is
// measured while nothing is ever refused, delayed, repeated or ended, and a rollout percentage applies the policies to some sessions only.
//
// [Guard.Reconfigure] changes thresholds in place: states, counts, queues and calls under way stay.
//
// # How it is made
//
// The policies are composed by failsafe-go, whose retry loop, hedge and fallback are used. Breaker, bulkhead, rate limit, budget and timeouts
// are policies of our own, plugged in through its policy interface, because the stock ones would make a status lie or a retry storm
// possible; docs/decisions/0007-own-policies-through-failsafe-spi.md lists the tests. No failsafe-go type is part of this package's API.
package resilience
