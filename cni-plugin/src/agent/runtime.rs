//! The one asynchronous runtime, of one thread, in which an agent is waited for.

use std::{future::Future, io, mem::ManuallyDrop, time::Instant};

use tokio::time::timeout;

use super::{AgentAddr, AgentError};

/// A runtime whose drop does not wait: tokio's would block until `getaddrinfo()` on its blocking
/// thread times out.
pub struct Runtime(ManuallyDrop<tokio::runtime::Runtime>);

impl Runtime {
    /// One of this thread alone.
    ///
    /// # Errors
    /// The kernel's: files, memory or threads have run out.
    pub fn new() -> io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Ok(Self(ManuallyDrop::new(builder.enable_all().build()?)))
    }

    /// Waits for `work` until the deadline.
    ///
    /// # Errors
    /// [`AgentError::Deadline`], of the agent at `addr`, when it isn't done by then.
    pub fn within<T>(
        &self,
        addr: &AgentAddr,
        deadline: Instant,
        work: impl Future<Output = T>,
    ) -> Result<T, AgentError> {
        let waited = deadline.saturating_duration_since(Instant::now());
        let done = self.0.block_on(async { timeout(waited, work).await });
        done.map_err(|_| AgentError::Deadline {
            addr: addr.clone(),
            waited,
        })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // SAFETY: taken here alone, and nobody has this value after `drop`.
        let runtime = unsafe { ManuallyDrop::take(&mut self.0) };
        runtime.shutdown_background();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// As the C library's look-up of a name, which nothing ends but an answer.
    #[test]
    fn what_waits_for_servers_of_names_keeps_no_call() {
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let start = Instant::now();
        let runtime = Runtime::new().unwrap();
        let look_up = async move {
            let wait = move || answered.recv_timeout(Duration::from_secs(8)).is_ok();
            tokio::task::spawn_blocking(wait).await.is_ok()
        };
        let addr = AgentAddr::default();
        let told = runtime.within(&addr, start, look_up);
        assert!(matches!(told, Err(AgentError::Deadline { .. })), "{told:?}");
        drop(runtime);
        let elapsed = start.elapsed();
        assert!(elapsed < Duration::from_secs(4), "{elapsed:?}");
        drop(answer);
    }
}
