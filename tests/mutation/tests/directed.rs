//! The tests of `core/tests` as one program: it is linked anew for every change.

#[path = "../../../drivers/block/drbd/core/tests/data_pair_faults.rs"]
mod data_pair_faults_tests;
#[path = "../../../drivers/block/drbd/core/tests/data_pair_packets.rs"]
mod data_pair_packets_tests;
#[path = "../../../drivers/block/drbd/core/tests/data_pair_resync.rs"]
mod data_pair_resync_tests;
#[path = "../../../drivers/block/drbd/core/tests/data_pair.rs"]
mod data_pair_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_attach.rs"]
mod pair_attach_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_begins.rs"]
mod pair_begins_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_cancel.rs"]
mod pair_cancel_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_choice.rs"]
mod pair_choice_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_commands.rs"]
mod pair_commands_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_congestion.rs"]
mod pair_congestion_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_digests.rs"]
mod pair_digests_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_disk_errors.rs"]
mod pair_disk_errors_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_doubt.rs"]
mod pair_doubt_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_edges.rs"]
mod pair_edges_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_exposed.rs"]
mod pair_exposed_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_faults.rs"]
mod pair_faults_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_frozen.rs"]
mod pair_frozen_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_generations.rs"]
mod pair_generations_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_given_up.rs"]
mod pair_given_up_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_grow.rs"]
mod pair_grow_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_helpers.rs"]
mod pair_helpers_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_hostile.rs"]
mod pair_hostile_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_late.rs"]
mod pair_late_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_log.rs"]
mod pair_log_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_policies.rs"]
mod pair_policies_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_power.rs"]
mod pair_power_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_resize.rs"]
mod pair_resize_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_runs.rs"]
mod pair_runs_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_scenes.rs"]
mod pair_scenes_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_sizes.rs"]
mod pair_sizes_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_status.rs"]
mod pair_status_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_storm.rs"]
mod pair_storm_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair.rs"]
mod pair_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_told.rs"]
mod pair_told_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_unstable.rs"]
mod pair_unstable_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_versions.rs"]
mod pair_versions_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_volumes.rs"]
mod pair_volumes_tests;
#[path = "../../../drivers/block/drbd/core/tests/pair_whole_bitmap.rs"]
mod pair_whole_bitmap_tests;
#[path = "../../../drivers/block/drbd/core/tests/replay.rs"]
mod replay_tests;
