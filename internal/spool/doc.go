// Package spool is an on-disk queue of request bodies: what [Queue.Append] has
// accepted survives a kill of the process and a loss of power, and it stays until it
// is marked as done.
//
// # Promises
//
//   - Append returns nil after fdatasync. Appends that wait at the same time share one
//     sync (group commit), so durability costs a sync a group and not one a request. A
//     sync is put off a little when more are about to come.
//   - One bad record costs one record. Each has a CRC-32C of its header and one of its
//     body; what fails is copied to quarantine/, counted and passed over, and reading
//     goes on at the next record.
//   - A queue is never wiped. Files of others are left alone, a segment of a newer
//     version makes [Open] refuse before it has changed anything, and a broken state
//     file costs duplicates, not data.
//   - A full disk costs an error of that Append ([ErrFull], or the one of the write),
//     and nothing that was accepted before.
//   - Only one process has a queue open ([ErrLocked]).
//
// # Order
//
// Every record has a sequence number. Records of one [Lane] (an org and a cluster) are
// read in the order of their acceptance; [Queue.Done] says up to where a lane has been
// delivered. Lanes do not wait for each other.
//
// # Directory
//
//	lock                     held with flock while a process has the queue open
//	state.json               per lane: delivered up to where, and the batch being sent
//	0000000000000001.seg     a segment, named after its first sequence number
//	0000000000000001.sent    the same, all delivered, kept for Options.KeepSent
//	quarantine/              bytes that failed their checksum, and broken files
//
// docs/formats.md draws the bytes.
package spool
