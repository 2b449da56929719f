package main

// soakNumber is the scenario of random faults.
const soakNumber = 31

// scenarios are those of resilience.md §6, and after them what issue 3 asks for besides.
var scenarios = []scenario{
	{1, "kill -9 of a stdio server", "1 breaker failure; reads succeed on the new child; writes: executed unknown; first success < 2 s (p95); never opens", true, killOne, ""},
	{2, "crash loop", "restarts back off; opens after ≤ 5 failures; rejects p99 < 5 ms; CPU < 5 % of a core; recovery < timeout + 5 s", false, crashLoop, ""},
	{3, "RST on idle connections", "100 % success, writes included; attempts/calls ≤ 1.05", true, staleConnections, ""},
	{4, "RST after the request was read", "reads 100 %; writes: 0 duplicates, class connection, executed unknown", true, resetsAfter, ""},
	{5, "slow-loris body", "attempt timeout 300 ms ± 30 ms; connection closed; slot free", true, slowLoris, ""},
	{6, "headers, then silence", "attempt timeout; idle timeout; with progress extended to the hard stop", true, silentStream, ""},
	{7, "5xx burst", "opens after ≤ 5 failures; server gets ≤ 5 + trials (≤ 3 per opening); rejects p99 < 1 ms; closes ≤ timeout + 10 %; attempts/calls ≤ 1.2", true, burst, ""},
	{8, "30 % random 5xx", "stays closed (rate 0.5); reads ≥ 97 % after retries; attempts/calls ≤ 1 + ratio + burst/N", false, randomErrors, ""},
	{9, "429 with Retry-After", "no repetition earlier (seconds and date); stays closed; longer than max_retry_after: answers at once with retry_after", true, tooMany, ""},
	{10, "garbage over HTTP, 1 of 20", "only the calls hit fail; innocent calls 0 errors; sessions stay", true, garbled, ""},
	{11, "noise on a server's stdout", "≤ 1 restart; reads recovered; ≤ 1 breaker failure", true, noisy, ""},
	{12, "401 for 1 client of 10", "other nine: 0 errors, 0 new sessions", true, unauthorized, ""},
	{13, "half-open flapping", "trials ≤ 3 at once; open time doubles to the cap; ≤ 2 changes per open period", false, flapping, ""},
	{14, "trial that never returns", "half-open timeout opens again; recovers later", false, stuckTrial, ""},
	{15, "clock jumps", "windows and open times unchanged", false, nil, "the wall clock of a process cannot be moved without moving the machine's. The library measures time by the monotonic clock only and takes wall-clock times " +
		"for display alone; its tests run on a clock of their own (resilience, testing/synctest)"},
	{16, "gateway stopped (SIGSTOP)", "failures ≤ calls in flight; ≤ 1 opening; recovers < 5 s", false, frozen, ""},
	{17, "500 callers on a recovering server", "trials ≤ 3; then ≤ bulkhead; does not open again; all answered < 5 s", true, herd, ""},
	{18, "hung stdio server", "callers back at the attempt timeout ± 50 ms; opens after 5; abandoned ≤ max_concurrent; the child is replaced", true, hungChild, ""},
	{19, "child that does not read, 1 MiB arguments", "no caller held longer than timeout + 50 ms; works again after the kill", true, deafChild, ""},
	{20, "floods of 100 MB on stdout and stderr", "memory < +32 MiB; no deadlock; works again", true, floods, ""},
	{21, "answers after the timeout", "delivered to nobody; counted; the next calls correct", true, lateAnswers, ""},
	{22, "1000 calls cancelled at random", "0 breaker failures; trials' permits come back; server told of ≥ 99 %", true, cancellations, ""},
	{23, "DNS fails, NXDOMAIN", "class dns; no growth; works again", false, dnsScenario, ""},
	{24, "30 open event streams", "POST latency unaffected", false, manyStreams, ""},
	{25, "panic in the adapter", "500 calls, 500 errors; alive; slots 0", false, nil, "no request makes this gateway panic, and it has no switch to do so. resilience: TestPanicIsContained; the gateway's log is searched for panics after every scenario"},
	{26, "one hung, one failing, one flapping, under load", "healthy p99 ≤ 1.10 × that of the same load without faults, + 2 ms", false, mixedFaults, ""},
	{27, "everything fails, breakers off", "attempts/calls ≤ 1 + ratio + burst/N", true, retryStorm, ""},
	{28, "reload while open, half-open, in flight", "states kept; 0 lost", true, reloads, ""},
	{29, "Redis, OpenFGA, Keycloak, Prometheus killed", "degraded mode within 1 s", false, nil, "this gateway depends on none of them yet: it is one process that needs nothing else (architecture.md D13)"},
	{30, "input_required while failing", "counts as success; a round with answers is never repeated once sent", true, inputRequired, ""},
	{soakNumber, "soak, random faults", "all of the above hold; RSS grows < 1 MiB in 10 min; recovery p95 < timeout + 10 s", false, soak, ""},

	{32, "clients that do not read", "others unaffected; memory bounded", false, slowReaders, ""},
	{33, "SIGTERM with calls in flight", "every call answered; exit 0", true, drain, ""},
	{34, "circuit_status while all hang", "≤ 5 ms", true, allHang, ""},
	{35, "a server that goes away and comes back", "writes never twice; reads recovered; back within the open time", true, outage, ""},
}
