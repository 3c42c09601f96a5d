//! A page token.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xpu_agent::api::page::{decode, encode};
use xpu_model::{Id, Kind};

fuzz_target!(|text: &str| {
    for kind in Kind::ALL {
        // What is taken for a token is one that we wrote, for this collection alone.
        if let Some(id) = decode(kind, text) {
            assert_eq!(encode(kind, &id), text);
            let others = Kind::ALL.into_iter().filter(|other| *other != kind);
            assert_eq!(others.filter_map(|other| decode(other, text)).count(), 0);
        }
        if let Ok(id) = text.parse::<Id>() {
            assert_eq!(decode(kind, &encode(kind, &id)), Some(id));
        }
    }
});
