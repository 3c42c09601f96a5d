//! Waiting for a state that announces itself to nobody, with a limit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Between two looks. An emulated guest needs about this long to run one `ip` or `vtysh`.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until `look` succeeds; answers with what it found.
///
/// A look tells by its error what is still missing (`anyhow::ensure!` does that well): the last
/// one is the message when the limit is over.
///
/// # Errors
/// Where the limit passes; the message names `what` and has the last look's error.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let error = match look() {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(error).with_context(|| format!("waited {limit:?} until {what}; at last"));
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the programs looked at (vtysh, ip, sysfs) tell a state but no change of it"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[test]
    fn looks_again_until_it_succeeds() {
        let mut looks = 0;
        let found = wait_until("three looks", Duration::from_secs(5), || {
            looks += 1;
            ensure!(looks == 3, "only {looks} looks");
            Ok(looks)
        });
        assert_eq!(found.expect("succeeds"), 3);
    }

    #[test]
    fn the_message_has_the_last_state() {
        let error = wait_until("it rains", Duration::ZERO, || -> Result<()> {
            anyhow::bail!("the sun shines")
        });
        let text = format!("{:#}", error.expect_err("never succeeds"));
        assert!(
            text.contains("until it rains") && text.contains("the sun shines"),
            "{text}"
        );
    }
}
