//! gzip (RFC 1952), compressed by several threads, with the same bytes from any number of them.
//!
//! The input is cut into blocks, each compressed by itself (RFC 1951) and ended on a byte, so that they can be put one after
//! the other: one member, which every program reads. The header names no time, no file and no system.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, FlushCompress};

/// zlib's default: what registries are used to.
const LEVEL: u32 = 6;

/// Large enough that cutting costs next to nothing: what a block could have referred to is 32 KiB before it.
const BLOCK_BYTES: usize = 1 << 20;

/// Deflated, no flags, no time, nothing about the compressor, no system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A last block that is empty: the bits of "last", "fixed codes" and "end of block".
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Compresses all that there is. Each piece of the input is given to `see` first.
pub(super) fn compress(
    from: &mut dyn Read,
    to: &mut dyn Write,
    threads: usize,
    mut see: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut checksum = Crc::new();
    to.write_all(&HEADER)?;
    loop {
        // Two for each, so that none waits long for the slowest.
        let mut blocks: Vec<Vec<u8>> = (0..2 * threads.max(1)).map(|_| block(from)).collect::<Result<_, _>>()?;
        let is_end = blocks.last().is_some_and(|block| block.len() < BLOCK_BYTES);
        blocks.retain(|block| !block.is_empty());
        for block in &blocks {
            see(block);
            checksum.update(block);
        }
        for compressed in deflate_all(&blocks, threads)? {
            to.write_all(&compressed)?;
        }
        if is_end {
            break;
        }
    }
    to.write_all(&LAST_BLOCK)?;
    to.write_all(&checksum.sum().to_le_bytes())?;
    to.write_all(&checksum.amount().to_le_bytes())?;
    to.flush()
}

/// As much as a block holds; less only at the end.
fn block(from: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    from.take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
    Ok(block)
}

/// Compresses blocks, several at a time.
fn deflate_all(blocks: &[Vec<u8>], threads: usize) -> io::Result<Vec<Vec<u8>>> {
    let next = AtomicUsize::new(0);
    let compressed: Vec<Mutex<io::Result<Vec<u8>>>> = blocks.iter().map(|_| Mutex::new(Ok(Vec::new()))).collect();
    let work = || {
        while let Some((block, place)) = blocks.iter().zip(&compressed).nth(next.fetch_add(1, Ordering::Relaxed)) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = deflate(block);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(blocks.len()) {
            scope.spawn(work);
        }
        work();
    });
    compressed.into_iter().map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

fn deflate(block: &[u8]) -> io::Result<Vec<u8>> {
    let mut compress = Compress::new(Compression::new(LEVEL), false);
    let mut compressed = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let read = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let rest = block.get(read..).unwrap_or_default();
        compress.compress_vec(rest, &mut compressed, FlushCompress::Sync).map_err(io::Error::other)?;
        // Room that is left says that everything came out.
        if compressed.len() < compressed.capacity() {
            return Ok(compressed);
        }
        compressed.reserve(block.len() / 2 + 1024);
    }
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;

    use super::*;

    /// Bytes that compress badly, the same every time.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let step = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        (0..length).map(step).collect()
    }

    fn check(input: &[u8]) {
        let compressed = [1, 2, 5].map(|threads| {
            let (mut out, mut seen) = (Vec::new(), Vec::new());
            compress(&mut &input[..], &mut out, threads, |piece| seen.extend_from_slice(piece)).unwrap();
            assert!(seen == input);
            out
        });
        assert!(compressed.windows(2).all(|pair| pair[0] == pair[1]), "any number of threads");
        let mut decoder = GzDecoder::new(&compressed[0][..]);
        let mut output = Vec::new();
        decoder.read_to_end(&mut output).unwrap();
        assert!(output == input, "{} bytes", input.len());
        assert!(decoder.into_inner().is_empty(), "one member, and nothing after it");
    }

    #[test]
    fn what_was_compressed_reads_back() {
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES, 5 * BLOCK_BYTES + 7] {
            check(&vec![b'a'; length]);
            check(&noise(length));
        }
    }
}
