//! Where a JSON text is wrong: the reader of JSON says where it had come to, which is behind the token
//! that it could not use.

/// Line and column of a token, from 1.
pub(crate) type TokenPlace = (usize, usize);

/// The token that ends at this place, or has it within.
pub(crate) fn token_at(bytes: &[u8], line: usize, column: usize) -> TokenPlace {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let start: usize = lines.take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let until = start.saturating_add(column);
    let mut last = 0;
    for (token, end) in tokens(bytes) {
        last = token;
        if end >= until {
            break;
        }
    }
    place(bytes, last)
}

/// The value behind the first key of this name.
pub(crate) fn value_of(bytes: &[u8], key: &str) -> TokenPlace {
    let is_key = |(start, end): &(usize, usize)| {
        let text = bytes.get(start + 1..end.saturating_sub(1));
        text == Some(key.as_bytes())
    };
    let mut tokens = tokens(bytes).skip_while(|token| !is_key(token));
    // The key, a colon, the value.
    place(bytes, tokens.nth(2).map_or(0, |(start, _)| start))
}

/// The first text that is longer than this.
pub(crate) fn text_longer_than(bytes: &[u8], limit: usize) -> TokenPlace {
    let mut tokens = tokens(bytes);
    let long = tokens.find(|(start, end)| end - start > limit + 2);
    place(bytes, long.map_or(0, |(start, _)| start))
}

fn place(bytes: &[u8], at: usize) -> TokenPlace {
    let before = bytes.get(..at).unwrap_or(bytes);
    let in_line = before.rsplit(|byte| *byte == b'\n').next();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(in_line.unwrap_or_default());
    (line, column.chars().count() + 1)
}

/// First and last byte of each token.
fn tokens(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let start = at;
        let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
        at = start + length(rest).min(rest.len());
        Some((start, at))
    })
}

/// Of the token that begins here, at least 1.
fn length(bytes: &[u8]) -> usize {
    let end = match bytes.first() {
        Some(b'"') => {
            let mut at = 1;
            while let Some(byte) = bytes.get(at) {
                match byte {
                    b'"' => return at + 1,
                    b'\\' => at += 2,
                    _ => at += 1,
                }
            }
            at
        }
        Some(b'{' | b'}' | b'[' | b']' | b',' | b':') => 1,
        _ => {
            let ends = |byte: &u8| byte.is_ascii_whitespace() || b"{}[],:\"".contains(byte);
            bytes.iter().position(ends).unwrap_or(bytes.len())
        }
    };
    end.clamp(1, bytes.len().max(1))
}
