// Package wire reads and writes JSON-RPC 2.0 messages without decoding what they carry.
//
// A gateway must hand on what it does not understand exactly as it came, so this package validates a message once, strictly
// (RFC 8259 grammar, UTF-8, a depth bound, no duplicate and no case-variant envelope member), remembers where the members of
// the envelope lie, and otherwise works on the original bytes: [Parse] finds them, [Get] and [Members] look into an object,
// [Edit] replaces single members and copies the rest. Numbers keep their spelling, objects their order, strings their escapes.
//
// Byte slices that the functions return share memory with their input unless the comment says otherwise.
package wire
