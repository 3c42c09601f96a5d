//! Foreign text in messages: escaped, and no longer than a line.
//!
//! Errors quote what they refuse. Over gRPC they travel in headers, where a peer allows a few
//! kilobytes in all: a name of a megabyte, quoted whole, would cost the client the error itself.

use std::fmt::Write;

/// Characters of a quoted text at most.
const MOST: usize = 80;

/// The text with control characters escaped; cut, with what it is cut from, if it is long.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MOST).is_some() {
        // Writing to a String cannot fail.
        let _ = write!(shown, "… ({} bytes)", text.len());
    }
    shown
}

/// The names, the first ten if they are many.
#[must_use]
pub fn listed<T: ToString>(names: &[T]) -> String {
    const FIRST: usize = 10;
    let first: Vec<_> = names.iter().take(FIRST).map(T::to_string).collect();
    match names.len().saturating_sub(FIRST) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_and_lists_are_cut() {
        assert_eq!(shown("a\u{1b}b"), "a\\u{1b}b");
        assert_eq!(shown(&"x".repeat(80)), "x".repeat(80));
        assert_eq!(
            shown(&"é".repeat(81)),
            format!("{}… (162 bytes)", "é".repeat(80))
        );
        assert_eq!(listed(&[1, 2]), "1, 2");
        let many: Vec<u32> = (0..12).collect();
        assert_eq!(listed(&many), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more");
    }
}
