// Package workload is the station on the data's way where the living shop's steps become commits: a dispatcher plans them
// on an absolute schedule, lanes keep each shard's steps in order, and workers commit them as transactions that are
// applied exactly once, whatever happens to the connection.
package workload
