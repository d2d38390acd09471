//! Helpers of the tests about the sources.
