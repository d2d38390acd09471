//! drbdadm, drbdsetup and drbdmeta in one binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    drbd_tools::run()
}
