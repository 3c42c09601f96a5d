//! Tasks with names, so that a stop can say which tasks it waits for.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::JoinHandle, time::timeout};
use tokio_util::task::TaskTracker;

/// Some of the agent's tasks; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    tasks: TaskTracker,
    running: Arc<Mutex<BTreeSet<&'static str>>>,
}

/// Keeps a name among those that run until it is dropped, which a panic of its task does, too.
struct Running {
    name: &'static str,
    among: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut among = self.among.lock().unwrap_or_else(PoisonError::into_inner);
        among.remove(self.name);
    }
}

impl Parts {
    /// Runs a task under a name that no other one has.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let among = self.running.clone();
        among
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name);
        let running = Running { name, among };
        self.tasks.spawn(async move {
            let _running = running;
            task.await
        })
    }

    /// Waits for the end of them all; no more are spawned.
    ///
    /// # Errors
    /// The names of those that have not ended in time.
    pub async fn ended_within(&self, limit: Duration) -> Result<(), Vec<&'static str>> {
        self.tasks.close();
        match timeout(limit, self.tasks.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => {
                let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
                Err(running.iter().copied().collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(8);

    #[tokio::test(start_paused = true)]
    async fn those_that_have_not_ended_are_named() {
        let parts = Parts::default();
        parts.spawn("done", ready(()));
        let panics = parts.spawn("panics", async { panic!("as it may happen") });
        let hangs = parts.spawn("hangs", pending::<()>());
        parts.spawn("waits", pending::<()>());
        let _ = panics.await;
        let begun = tokio::time::Instant::now();
        assert_eq!(parts.ended_within(LIMIT).await, Err(vec!["hangs", "waits"]));
        assert_eq!(begun.elapsed(), LIMIT);
        hangs.abort();
        let _ = hangs.await;
        assert_eq!(parts.ended_within(LIMIT).await, Err(vec!["waits"]));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_waited_for_that_has_ended() {
        let parts = Parts::default();
        parts.spawn("done", ready(()));
        let begun = tokio::time::Instant::now();
        assert_eq!(parts.ended_within(LIMIT).await, Ok(()));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
