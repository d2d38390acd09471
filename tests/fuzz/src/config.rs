//! A hostile configuration file, or words on a command line.
//!
//! Promises: every text is refused with a sentence or understood; what was understood and printed
//! is understood again.

use crate::input::Input;

/// Reads a text.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let text = String::from_utf8_lossy(input.rest);
    match how % 4 {
        0 => {
            let words: Vec<&str> = text.split(['\n', '\0']).collect();
            drbd_tools::probe::setup_words(&words);
        }
        1 => drbd_tools::probe::running(&text),
        _ => drbd_tools::probe::configuration(&text),
    }
}
