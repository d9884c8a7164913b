//! What every engine does, tried on each of them, and what only one of them does. The kernel's needs root and a kernel
//! that has device-mapper: `make test-kernel` brings one.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, too, may fail a test

mod cases;
#[cfg(feature = "kernel")]
mod kernel_cache;
#[cfg(feature = "kernel")]
mod kernel_device;
#[cfg(feature = "kernel")]
mod kernel_full;
#[cfg(feature = "kernel")]
mod kernel_tools;
mod kill;
mod lab;
mod only_embedded;
#[cfg(feature = "kernel")]
mod only_files;
#[cfg(feature = "kernel")]
mod only_kernel;
#[cfg(feature = "kernel")]
mod only_transient;

/// Every case on every engine. Those behind the first semicolon are about what stands on the image's file, as no disk does
/// that is a file of its own; those behind the second about full overlays, which are another thing where overlays are
/// transient snapshots, and nothing where disks are files: `only_files` and `only_transient` have theirs.
macro_rules! suite {
    ($($case:ident),+ ; $($of_image:ident),+ ; $($of_space:ident),+ $(,)?) => {
        mod embedded {
            $(#[test] fn $case() { crate::cases::$case(&crate::lab::Lab::embedded()); })+
            $(#[test] fn $of_image() { crate::cases::$of_image(&crate::lab::Lab::embedded()); })+
            $(#[test] fn $of_space() { crate::cases::$of_space(&crate::lab::Lab::embedded()); })+
        }
        mod sim {
            $(#[test] fn $case() { crate::cases::$case(&crate::lab::Lab::sim()); })+
            $(#[test] fn $of_image() { crate::cases::$of_image(&crate::lab::Lab::sim()); })+
            $(#[test] fn $of_space() { crate::cases::$of_space(&crate::lab::Lab::sim()); })+
        }
        #[cfg(feature = "kernel")]
        mod kernel {
            $(#[test] fn $case() { crate::cases::$case(&crate::lab::Lab::kernel()); })+
            $(#[test] fn $of_image() { crate::cases::$of_image(&crate::lab::Lab::kernel()); })+
            $(#[test] fn $of_space() { crate::cases::$of_space(&crate::lab::Lab::kernel()); })+
        }
        #[cfg(feature = "kernel")]
        mod kernel_transient {
            $(#[test] fn $case() { crate::cases::$case(&crate::lab::Lab::transient()); })+
            $(#[test] fn $of_image() { crate::cases::$of_image(&crate::lab::Lab::transient()); })+
        }
        #[cfg(feature = "kernel")]
        mod kernel_files {
            $(#[test] fn $case() { crate::cases::$case(&crate::lab::Lab::in_files()); })+
        }
        #[cfg(feature = "kernel")]
        mod kernel_cached {
            $(#[test] fn $case() { crate::cases::$case(&crate::lab::Lab::kernel_cached()); })+
            $(#[test] fn $of_image() { crate::cases::$of_image(&crate::lab::Lab::kernel_cached()); })+
        }
    };
}

suite!(
    a_fresh_disk_is_the_image,
    writes_are_the_clients_own_and_leave_the_image_alone,
    the_same_boot_finds_its_disk_again,
    the_next_boot_finds_the_image_pristine,
    a_boot_that_is_over_gets_no_disk,
    a_disk_that_is_detached_is_gone,
    an_image_that_can_not_be_used_changes_nothing,
    clients_keep_their_version_when_the_next_is_published,
    names_that_lead_out_are_refused,
    many_threads_may_attach_and_detach;
    an_image_that_shrinks_fails_where_it_is_gone;
    the_limit_holds_for_new_blocks_only,
);
