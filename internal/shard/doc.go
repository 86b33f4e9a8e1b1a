// Package shard lets the processes that execute parts of one plan start together and leave their results where they can
// be merged. They share nothing but an object store, a directory or a bucket, in which one run has one place:
//
//	ready/<index>                            written by each shard when it could begin
//	start                                    written once: T0, or why nobody starts
//	shards/<index>/claim                     which attempt of the index executes it
//	shards/<index>/attempt-<uid>/run.json    the run file of the shard
//	shards/<index>/attempt-<uid>/errors.json its errors and statuses, to be read without the rest
//	shards/<index>/attempt-<uid>/manifest.json   written last: hashes of the two, of plan, corpus and configuration
//	shards/<index>/attempt-<uid>/aborted     instead: why this attempt did not execute
//
// Every object is put once and never changed. A put that finds an object answers the question who was first, so the
// store needs no more than a conditional put: If-None-Match in S3, a link in a directory.
//
// Clocks of machines differ. [Barrier.Wait] measures how far its own is from the store's and takes T0 for the store's.
package shard
