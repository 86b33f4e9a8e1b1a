// Package awsread reads from AWS and never writes: log groups become records of
// invocations, the price list becomes a candidate for the price book.
//
// A log group is read in one of two ways. [Logs.Records] fetches the platform's
// own log events with FilterLogEvents, which is free, gives every record with its
// time, and takes a request for every megabyte or 10,000 events: right for hours.
// [Logs.Groups] lets Logs Insights count where the events are, which costs
// $0.005 a GB scanned in us-east-1 and gives, for every billed duration, memory
// size and cold or warm, how many invocations there were: right for weeks.
//
// Neither recomputes a billed time. What could not be read completely is an error
// or a notice, never a smaller number.
package awsread
