//! Lines for the log of the run. Warnings are also shown to the user at the end of the start.

pub use crate::bindings::handles::cove::hooks::log::{Level, log};

/// A line for the author of the plugin.
#[macro_export]
macro_rules! debug {
    ($($text:tt)+) => { $crate::log($crate::Level::Debug, &::std::format!($($text)+)) };
}

/// A line for the log.
#[macro_export]
macro_rules! info {
    ($($text:tt)+) => { $crate::log($crate::Level::Info, &::std::format!($($text)+)) };
}

/// A line for the user, who sees it at the end of the start.
#[macro_export]
macro_rules! warning {
    ($($text:tt)+) => { $crate::log($crate::Level::Warning, &::std::format!($($text)+)) };
}

/// A line about what went wrong although the hook goes on. What ends it is returned instead.
#[macro_export]
macro_rules! error {
    ($($text:tt)+) => { $crate::log($crate::Level::Error, &::std::format!($($text)+)) };
}
