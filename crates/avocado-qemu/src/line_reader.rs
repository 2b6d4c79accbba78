//! Lines from a socket, with a bound on their length.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads lines. What was read of a line is kept when a caller stops waiting.
pub(crate) struct LineReader<R> {
    reader: R,
    buffer: Vec<u8>,
    /// How much of the buffer is known to have no line end.
    searched: usize,
    limit: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Lines of at most `limit` bytes.
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        LineReader {
            reader,
            buffer: Vec::new(),
            searched: 0,
            limit,
        }
    }

    /// The next line without its end, or None at the end of the input. A last line without an end
    /// is dropped: it is a message that was cut off.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                while matches!(line.last(), Some(b'\n' | b'\r')) {
                    line.pop();
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > self.limit {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a line is longer than {} bytes", self.limit),
                ));
            }
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(input: &[u8], limit: usize) -> (Vec<Vec<u8>>, bool) {
        let mut lines = LineReader::new(input, limit);
        let mut found = Vec::new();
        loop {
            match lines.next().await {
                Ok(Some(line)) => found.push(line),
                Ok(None) => return (found, true),
                Err(_) => return (found, false),
            }
        }
    }

    #[tokio::test]
    async fn splits_at_line_ends() {
        for (input, expected) in [
            ("", vec![]),
            ("a", vec![]),
            ("a\nb\r\n\nc", vec!["a", "b", ""]),
        ] {
            let expected: Vec<Vec<u8>> = expected
                .into_iter()
                .map(|l: &str| l.as_bytes().to_vec())
                .collect();
            assert_eq!(
                all(input.as_bytes(), 10).await,
                (expected, true),
                "{input:?}"
            );
        }
    }

    #[tokio::test]
    async fn refuses_a_line_without_end() {
        let input = vec![b'x'; 100_000];
        assert_eq!(all(&input, 1000).await, (vec![], false));
    }

    #[tokio::test]
    async fn keeps_what_was_read_when_nobody_waits_any_more() {
        use tokio::io::AsyncWriteExt;
        let (mut near, far) = tokio::io::duplex(64);
        let mut lines = LineReader::new(far, 100);
        near.write_all(b"hel").await.unwrap();
        tokio::select! {
            biased;
            _ = lines.next() => panic!("there is no line yet"),
            () = tokio::task::yield_now() => {}
        }
        near.write_all(b"lo\n").await.unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap(), b"hello");
    }
}
