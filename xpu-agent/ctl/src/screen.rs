//! What stdout is: a terminal with a width, perhaps with colours, or a pipe. And the one way
//! to write there.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;

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
