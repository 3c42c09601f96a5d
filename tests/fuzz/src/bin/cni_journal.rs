//! The journal's texts: records with their steps, and tombstones.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xpu_cni::{
    journal::{Learned, Record, Step, Tombstone},
    port::Key,
};
use xpu_fuzz::told;

fuzz_target!(|text: &str| {
    if let Ok((record, steps)) = Record::parse(text) {
        let mut again = record.line() + "\n";
        let nothing = Learned::default();
        let whole = again.len();
        for step in &steps {
            again += &format!("{}\n", step.line(&nothing));
        }
        assert_eq!(
            Record::parse(&again),
            Ok((record.clone(), steps.clone())),
            "{again}"
        );
        // A write that was cut off, wherever, loses a step, never the record or another step.
        for cut in whole..again.len().min(whole + CUTS) {
            let Some(torn) = again.get(..cut) else {
                continue;
            };
            let (same, fewer) = Record::parse(torn).unwrap();
            assert!(same == record && steps.starts_with(&fewer), "{torn}");
            let lines = torn[whole..].matches('\n').count();
            assert!(fewer.len() >= lines, "{torn}");
        }
        // And what is no step ends them.
        let strange =
            again.clone() + "{\"step\":\"none-such\"}\n" + &Step::Attached.line(&nothing) + "\n";
        assert_eq!(Record::parse(&strange), Ok((record.clone(), steps)));
        assert!(record.format <= Record::FORMAT);
        if let Err(error) = record.peer() {
            told(error, &[7]);
        }
        buried(&Tombstone::of(&record));
        let pci = &record.vf.pci;
        assert!(!pci.as_str().contains('/'), "{pci}");
        assert_eq!(
            Key::from_file_name(record.key().as_str()),
            Some(record.key())
        );
    }
    if let Ok(tombstone) = Tombstone::parse(text) {
        buried(&tombstone);
    }
});

/// The most places that one record is cut at.
const CUTS: usize = 200;

fn buried(tombstone: &Tombstone) {
    assert_eq!(Tombstone::parse(&tombstone.line()).as_ref(), Ok(tombstone));
    let key = tombstone.key();
    assert_eq!(Key::from_file_name(key.as_str()).as_ref(), Some(key));
    assert!(xpu_model::Id::user(&tombstone.port_id()).is_ok());
    if let Err(error) = tombstone.peer() {
        told(error, &[7]);
    }
}
