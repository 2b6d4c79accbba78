use std::io::{self, BufRead, Read};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The largest window of zstd that memory is spent on, in bytes: that of level 19 and below.
const LARGEST_WINDOW: u64 = 8 << 20;

/// The content of the frames of a zstd file.
pub(super) struct ZstdReader<R> {
    source: R,
    decoder: FrameDecoder,
    /// Whether a frame is being read.
    within: bool,
}

impl<R: BufRead> ZstdReader<R> {
    pub(super) fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(LARGEST_WINDOW);
        ZstdReader {
            source,
            decoder,
            within: false,
        }
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let failed =
            |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, e.to_string());
        loop {
            if !self.within {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                let begun = self.decoder.reset(&mut self.source);
                begun.map_err(|e| failed(&e))?;
                self.within = true;
            }
            while self.decoder.can_collect() < bytes.len() && !self.decoder.is_finished() {
                let wanted = bytes.len() - self.decoder.can_collect();
                let strategy = BlockDecodingStrategy::UptoBytes(wanted);
                let decoded = self.decoder.decode_blocks(&mut self.source, strategy);
                decoded.map_err(|e| failed(&e))?;
            }
            let read = self.decoder.read(bytes)?;
            if read > 0 || bytes.is_empty() {
                return Ok(read);
            }
            // The end of a frame; there may be another one.
            self.within = false;
        }
    }
}
