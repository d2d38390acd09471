//! Two nodes, their disks, the network and the clock in one process.
