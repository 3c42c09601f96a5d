//! What stdout is: a terminal with a width, perhaps with colours, or a pipe. And the one way
//! to write there.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::pin;
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::render::printable;

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set or TERM is `dumb`.
    Auto,
    /// Even into a pipe.
    Always,
    /// Not at all.
    Never,
}

/// What there is to write on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Columns of the terminal; `None`: no terminal, lines may have any length.
    pub width: Option<u16>,
    /// Rows of the terminal.
    pub height: Option<u16>,
    /// Whether colours are wanted.
    pub colour: bool,
}

/// What a colour is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// As it should be: green.
    Good,
    /// On its way, or worth a look: yellow.
    Notice,
    /// Wrong: red.
    Bad,
}

impl Screen {
    /// No terminal, no colours.
    #[cfg(test)]
    pub const PIPE: Self = Self {
        width: None,
        height: None,
        colour: false,
    };

    /// Looks at stdout. Cheap: done again for every frame of a live table.
    pub fn of_stdout(colour: Colour) -> Self {
        let terminal = io::stdout().is_terminal();
        let size = terminal_size::terminal_size_of(io::stdout());
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            width: size.map(|(width, _)| width.0).filter(|_| terminal),
            height: size.map(|(_, height)| height.0).filter(|_| terminal),
            colour: match colour {
                Colour::Always => true,
                Colour::Never => false,
                Colour::Auto => terminal && !set("NO_COLOR") && !dumb,
            },
        }
    }

    /// The text in a colour, where there are colours.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        // ECMA-48 "select graphic rendition".
        let code = match paint {
            Paint::Good => 32,
            Paint::Notice => 33,
            Paint::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// How long work may take before a terminal shows that it goes on.
const SOON: Duration = Duration::from_secs(1);

/// How far long work is, on stderr and only if that is a terminal. Dropped, it is wiped away.
///
/// `steps`: how many there are, where that is known.
pub fn progress(steps: Option<usize>) -> ProgressBar {
    let target = match io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let length = steps.and_then(|steps| u64::try_from(steps).ok());
    let bar = ProgressBar::with_draw_target(length, target).with_finish(ProgressFinish::AndClear);
    let template = match steps {
        Some(_) => "{pos}/{len} [{bar:30}] {wide_msg}",
        None => "{spinner} {elapsed} {wide_msg}",
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(error) => {
            say(&format!("no progress is shown: {error}"));
            bar
        }
    }
}

/// Does what may take long, and then shows on a terminal that it goes on.
pub async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    if let Ok(done) = timeout(SOON, &mut work).await {
        return done;
    }
    let bar = progress(None).with_message(printable(what));
    bar.enable_steady_tick(SOON / 4);
    work.await
}

/// As much of a line as fits `width` columns, with its colours ended. Characters that some
/// terminals show two columns wide count so.
pub fn cut(line: &str, width: usize) -> String {
    let columns = |c: char| match c {
        // From here on there are wide characters (Unicode's East Asian Width).
        '\u{1100}'.. => 2,
        _ => 1,
    };
    let mut shown = String::with_capacity(line.len());
    let (mut used, mut escape, mut coloured, mut fits) = (0, false, false, 0);
    for c in line.chars() {
        if escape || c == '\x1b' {
            // ECMA-48: a control sequence ends with a letter, of which none stands before.
            escape = !c.is_ascii_alphabetic();
            coloured = true;
            shown.push(c);
            continue;
        }
        used += columns(c);
        if used > width {
            shown.truncate(fits);
            shown.push('\u{2026}');
            return match coloured {
                true => shown + "\x1b[0m",
                false => shown,
            };
        }
        shown.push(c);
        // Room for the mark that something is missing.
        if used < width {
            fits = shown.len();
        }
    }
    shown
}

/// Whoever reads stdout.
pub struct Reader(Option<AsyncFd<OwnedFd>>);

impl Reader {
    /// The one at the other end, where stdout has one: a pipe, a socket, a terminal.
    pub fn of_stdout() -> Self {
        let Ok(stdout) = io::stdout().as_fd().try_clone_to_owned() else {
            return Self(None);
        };
        // SAFETY: the descriptor is our own and is given away here: it is the same and open until
        // it is dropped, which the AsyncFd does after its registration.
        let registered = unsafe { AsyncFd::register_with_interest(stdout, Interest::WRITABLE) };
        // A file can't be waited for (EPERM).
        Self(registered.ok())
    }

    /// Waits until the reader has gone, as `head` does when it has seen enough. From a file nobody
    /// goes: that is waited for in vain.
    pub async fn gone(&self) {
        if let Some(stdout) = &self.0 {
            while let Ok(mut guard) = stdout.ready(Interest::WRITABLE).await {
                if guard.ready().is_write_closed() {
                    return;
                }
                guard.clear_ready();
            }
        }
        std::future::pending().await
    }
}

/// Writes to stdout. A reader that has seen enough (`| head`) ends the command quietly.
pub fn emit(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::NobodyReads),
        other => other.map_err(Failure::Output),
    }
}

/// Writes a line to stderr, if anybody reads it.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "xpuctl: {}", printable(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_to_columns_not_characters() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde\u{2026}");
        assert_eq!(cut("\u{6f22}\u{5b57}ab", 6), "\u{6f22}\u{5b57}ab");
        assert_eq!(cut("\u{6f22}\u{5b57}abc", 6), "\u{6f22}\u{5b57}a\u{2026}");
        assert_eq!(cut("a\x1b[32mbc\x1b[0m", 3), "a\x1b[32mbc\x1b[0m");
        assert_eq!(cut("a\x1b[32mbcd\x1b[0m", 3), "a\x1b[32mb\u{2026}\x1b[0m");
        assert_eq!(cut("", 0), "");
    }
}
