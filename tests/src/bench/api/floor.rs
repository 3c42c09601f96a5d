//! What a client meets beside others even if no agent has a part in it: the kernel's work for
//! writes that are made durable, and for bytes that a socket takes and throws away.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};

/// A thread that does the same over and over, as any process may.
#[derive(Debug)]
pub struct Work {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU32>,
    thread: JoinHandle<io::Result<()>>,
}

impl Work {
    fn start(mut round: impl FnMut() -> io::Result<()> + Send + 'static) -> Self {
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (stopped, counted) = (stop.clone(), rounds.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Relaxed) {
                round()?;
                counted.fetch_add(1, Relaxed);
            }
            Ok(())
        });
        Self {
            stop,
            rounds,
            thread,
        }
    }

    /// Ends it; how many rounds it was.
    ///
    /// # Errors
    /// Where one had failed.
    pub fn end(self) -> Result<u32> {
        self.stop.store(true, Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("it panicked"))??;
        Ok(self.rounds.load(Relaxed))
    }
}

/// Writes 4 KiB over again in a file and makes that durable, once in `every`.
///
/// # Errors
/// Where there can't be such a file.
pub fn durable_writes(path: &Path, every: Duration) -> Result<Work> {
    let file = File::create(path).with_context(|| format!("{}", path.display()))?;
    // Its blocks are there, so that a round is what a round of a database is.
    file.write_all_at(&[7; 4096], 0)?;
    file.sync_all()?;
    Ok(Work::start(move || {
        thread::sleep(every);
        file.write_all_at(&[7; 4096], 0)?;
        file.sync_data()
    }))
}

/// Refuses every HTTP request after its head, and hangs up.
///
/// # Errors
/// Where it can't listen on loopback.
pub fn refuser() -> Result<(SocketAddr, Work)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // So that it sees when to stop.
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let work = Work::start(move || match listener.accept() {
        Ok((client, _)) => refuse(client),
        Err(none) if none.kind() == io::ErrorKind::WouldBlock => {
            thread::sleep(Duration::from_millis(1));
            Ok(())
        }
        Err(error) => Err(error),
    });
    Ok((address, work))
}

fn refuse(mut client: TcpStream) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let mut head = [0; 512];
    let _ = client.read(&mut head)?;
    // The client may have gone.
    let _ = client.write_all(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\n\r\n");
    Ok(())
}
