// Package proc runs one child process and is sure to end it, with everything that it started.
//
// A server that is started as a command is often a chain: npx starts node, uvx starts python, a script starts both. Ending the
// first link is not enough, and the gateway may itself be killed without warning. What is needed is something that outlives the
// gateway by a moment, and that sees processes which left their parent, their process group and their session.
//
// On Linux that is a reaper: a second process of the gateway's own program between the gateway and each child ([MaybeReaper]). It
// is a child subreaper (prctl(2)), so whatever loses its parent below it becomes its child, and it ends when nothing is left. It
// holds one end of a pipe whose other end only the gateway holds: the kernel closes that when the gateway dies, however it dies.
// The child inherits its pipes directly; no byte passes through the reaper. One reaper for each child and not one for all,
// because an orphan does not say whose it was, and because a fault of one must not reach the others. Should the reaper itself
// be killed, its child dies with it (PR_SET_PDEATHSIG), and what remains of the process group is killed by the gateway.
//
// Elsewhere, and in a program that does not call MaybeReaper, the process group is all there is: a grandchild that starts a
// session of its own, or any process at all when the gateway is killed on a system without PR_SET_PDEATHSIG, can survive. On
// Windows a job object that is closed with the gateway takes the part of the process group.
package proc
