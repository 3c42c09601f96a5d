//! The journal's texts: records with their steps, and tombstones.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xpu_cni::{
    journal::{Record, Tombstone},
    port::Key,
};

fuzz_target!(|text: &str| {
    if let Ok((record, steps)) = Record::parse(text) {
        let mut again = record.line() + "\n";
        let whole = again.len();
        for step in &steps {
            again += &format!("{}\n", step.line());
        }
        assert_eq!(
            Record::parse(&again),
            Ok((record.clone(), steps.clone())),
            "{again}"
        );
        // A write that was cut off loses a step, never the record.
        let torn = again.get(..whole + (again.len() - whole) / 2);
        if let Some(torn) = torn {
            let (same, fewer) = Record::parse(torn).unwrap();
            assert!(same == record && steps.starts_with(&fewer));
        }
        let pci = record.vf.pci();
        assert!(!pci.as_str().contains('/'), "{pci}");
        assert_eq!(
            Key::from_file_name(record.key().as_str()),
            Some(record.key())
        );
    }
    if let Ok(tombstone) = Tombstone::parse(text) {
        assert_eq!(Tombstone::parse(&tombstone.line()), Ok(tombstone.clone()));
        let key = tombstone.key();
        assert_eq!(Key::from_file_name(key.as_str()).as_ref(), Some(key));
        assert!(xpu_model::Id::user(&tombstone.port_id()).is_ok());
    }
});
