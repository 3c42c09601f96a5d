//! A resource name, in every form that clients send.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xpu_model::{Id, Kind, ObjectKey};

fuzz_target!(|text: &str| {
    for kind in Kind::ALL {
        match ObjectKey::parse(kind, text) {
            Ok(key) => {
                let name = key.to_string();
                assert_eq!(name, format!("{}/{}", kind.collection(), key.id));
                assert_eq!(ObjectKey::parse(kind, &name).as_ref(), Ok(&key));
                assert_eq!(ObjectKey::parse(kind, key.id.as_str()).as_ref(), Ok(&key));
                assert!(text.ends_with(key.id.as_str()));
                plain(key.id.as_str());
            }
            Err(error) => {
                let why = error.to_string();
                assert!(
                    !why.contains(char::is_control) && why.len() < 1_500,
                    "{why:?}"
                );
            }
        }
    }
    if let Ok(id) = Id::user(text) {
        assert_eq!(id.as_str(), text);
        plain(text);
    }
});

/// An id goes into device names, FRR's configuration and files.
fn plain(id: &str) {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    assert!(id.chars().all(allowed), "{id:?}");
    assert!((4..=63).contains(&id.len()), "{id:?}");
}
