//! What is logged meanwhile, on this thread.
//!
//! One subscriber serves all threads for good. With one per thread, that come and go, `tracing`
//! may note of an event that nobody wants it while another thread's subscriber is just made.

use std::{
    cell::RefCell,
    io,
    sync::{Arc, Mutex, Once},
};

use tracing_subscriber::fmt::MakeWriter;

thread_local! {
    static HERE: RefCell<Option<Text>> = const { RefCell::new(None) };
}

/// The lines since it was made; what this thread logs goes here until it is dropped.
pub struct Log {
    text: Text,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to the text of the thread that logs; what nobody follows goes nowhere.
struct ByThread;

impl<'a> MakeWriter<'a> for ByThread {
    type Writer = Text;

    fn make_writer(&'a self) -> Text {
        HERE.with_borrow(|text| text.clone().unwrap_or_default())
    }
}

impl Log {
    pub fn follow() -> Self {
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| {
            let lines = tracing_subscriber::fmt()
                .with_writer(ByThread)
                .with_ansi(false)
                .finish();
            tracing::subscriber::set_global_default(lines).unwrap();
        });
        let text = Text::default();
        HERE.set(Some(text.clone()));
        Self { text }
    }

    /// The lines that have all of these words.
    pub fn lines(&self, words: &[&str]) -> Vec<String> {
        let text = self.text.0.lock().unwrap();
        let text = String::from_utf8_lossy(&text);
        let has = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().filter(has).map(str::to_owned).collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        HERE.set(None);
    }
}
