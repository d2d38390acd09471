//! The directed scenes of the simulator.

#[path = "../../sim/tests/directed.rs"]
mod directed;
#[path = "../../sim/tests/generations.rs"]
mod generations;
#[path = "../../sim/tests/lost_write.rs"]
mod lost_write;
#[path = "../../sim/tests/promises.rs"]
mod promises;
#[path = "../../sim/tests/resize.rs"]
mod resize;
#[path = "../../sim/tests/stuck.rs"]
mod stuck;
#[path = "../../sim/tests/suspend.rs"]
mod suspend;
