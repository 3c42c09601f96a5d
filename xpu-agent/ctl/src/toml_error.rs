//! What is wrong in a TOML file, for a message.

/// Line and reason in one line. (The `Display` of the error shows the lines of the file, too.)
pub fn in_a_line(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message.to_owned(),
    }
}
