//! drbdadm, drbdsetup and drbdmeta in one binary.

fn main() {}
