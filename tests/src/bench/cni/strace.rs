//! The log of `strace -f -e write=…`, line by line.

/// A log, and who is watched.
#[derive(Debug, Clone, Copy)]
pub struct Log<'a> {
    text: &'a str,
    /// The process that the log begins with; all others are its children.
    pub program: &'a str,
}

/// A line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// A system call that a process makes, whether it has ended by then or not.
    Call(Syscall<'a>),
    /// The end of a call that lines of another process had come into.
    Resumed {
        /// The process.
        process: &'a str,
        /// The call.
        name: &'a str,
        /// What follows, its result included.
        rest: &'a str,
    },
    /// Bytes that the call before them has written.
    Bytes(Vec<u8>),
}

/// A system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syscall<'a> {
    /// The process that makes it.
    pub process: &'a str,
    /// Its name.
    pub name: &'a str,
    /// All after the bracket, its result included.
    pub arguments: &'a str,
}

impl<'a> Log<'a> {
    /// Whom it is about is in its first line.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let program = text.split(' ').next().unwrap_or_default();
        Self { text, program }
    }

    /// All lines that say something: a signal, a process's end, and the number of a buffer don't.
    pub fn lines(self) -> impl Iterator<Item = Line<'a>> {
        self.text.lines().filter_map(line)
    }
}

fn line(line: &str) -> Option<Line<'_>> {
    if let Some(dump) = line.strip_prefix(" | ") {
        return Some(Line::Bytes(dumped(dump).collect()));
    }
    // Of a call with several buffers each has a line of its own before its bytes.
    let (process, call) = line.split_once(' ').filter(|(it, _)| !it.is_empty())?;
    let call = call.trim_start();
    if let Some(resumed) = call.strip_prefix("<... ") {
        let (name, rest) = resumed.split_once(" resumed>")?;
        return Some(Line::Resumed {
            process,
            name,
            rest,
        });
    }
    if call.starts_with("+++") {
        return None;
    }
    let (name, arguments) = call.split_once('(')?;
    Some(Line::Call(Syscall {
        process,
        name,
        arguments,
    }))
}

impl<'a> Syscall<'a> {
    /// Its first argument.
    #[must_use]
    pub fn first(&self) -> &'a str {
        let mut arguments = self.arguments.split([',', ')']);
        arguments.next().unwrap_or_default()
    }

    /// The text among its arguments that has so many before it.
    #[must_use]
    pub fn text(&self, number: usize) -> Option<&'a str> {
        self.arguments.split('"').nth(2 * number + 1)
    }

    /// What it gave; `None`: it hasn't ended yet.
    #[must_use]
    pub fn result(&self) -> Option<&'a str> {
        let (_, result) = self.arguments.rsplit_once(" = ")?;
        Some(result)
    }

    /// Whether the kernel refused it.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.arguments.contains(" = -1 ")
    }
}

/// The bytes of a line `00000  34 00 00 00 10 00 05 00  …   4....... `.
fn dumped(line: &str) -> impl Iterator<Item = u8> {
    const OFFSET: usize = 7;
    const COLUMNS: usize = 49;
    let columns = line.get(OFFSET..).unwrap_or_default();
    let columns = columns.get(..COLUMNS.min(columns.len()));
    let words = columns.unwrap_or_default().split_whitespace();
    words.filter_map(|word| u8::from_str_radix(word, 16).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_is_read() {
        let log = Log::new(
            "7 write(4, \"\"..., 2)   = 2\n | 00000  7b 7d    {}  |\n * 1 bytes in buffer 0\n\
             8 unlink(\"/a\" <unfinished ...>\n7 +++ exited with 0 +++\n\
             8 <... unlink resumed>) = -1 ENOENT (No such file or directory)\n",
        );
        assert_eq!(log.program, "7");
        let lines = Vec::from_iter(log.lines());
        let [
            Line::Call(write),
            Line::Bytes(bytes),
            Line::Call(unlink),
            Line::Resumed {
                process: "8",
                name: "unlink",
                rest,
            },
        ] = &lines[..]
        else {
            panic!("{lines:?}")
        };
        assert_eq!((write.first(), write.result()), ("4", Some("2")));
        assert_eq!(bytes, b"{}");
        assert_eq!((unlink.text(0), unlink.result()), (Some("/a"), None));
        assert_eq!(*rest, ") = -1 ENOENT (No such file or directory)");
        assert!(!unlink.failed());
    }
}
