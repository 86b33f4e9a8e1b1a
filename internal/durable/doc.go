// Package durable writes files that survive a crash of the process, of the
// operating system or of the power supply.
//
// A POSIX file system promises little: a write may sit in memory for half a
// minute, a rename may reach the disk before the bytes it names, and a new file
// may be lost with its directory entry although its bytes were synced. So every
// new file here goes through the same steps, and each one is checked:
//
//	open(dir/.tmp-XXXX, O_CREAT|O_EXCL)   a name nobody looks at
//	write, fsync, close                   the bytes are on the disk
//	rename or link to the final name      readers see all of it or nothing
//	fsync(dir)                            the name is on the disk
//
// When a call returns nil, the file is durable under its final name. When it
// returns an error, the final name holds what it held before, or the complete
// new content whose durability is unknown because the last fsync failed; it
// never holds a part. A process killed half-way leaves at most one temporary
// file, which [IsTemp] tells by its name.
//
// The disk itself must honour a flush. A file system that cannot sync
// directories (it answers EINVAL or "not supported") is trusted to order its
// metadata alone, and Windows, where a directory cannot be opened for syncing,
// likewise.
package durable
