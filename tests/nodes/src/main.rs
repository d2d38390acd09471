//! Runs scenarios on two real kernels.

fn main() {}
