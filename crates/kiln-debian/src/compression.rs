//! The compressions of Debian's archive: xz, gzip, zstd and none; and what the name of a file says of it.
//!
//! [`decompress`] is strict: memory and output are bounded, and a stream that is truncated, corrupt, empty, or has
//! something behind its end is an error that says so. Errors of the reader below pass through unchanged, so that a
//! broken network is never reported as a corrupt file.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

/// Memory an xz stream may need: its largest preset, `-9`, needs 65 MiB.
const XZ_MEMORY_BYTES_MAX: u64 = 130 << 20;
/// Binary logarithm of the largest zstd window: 128 MiB, what `zstd -d` accepts without being told.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// How much compressed input is read at a time.
const INPUT_BYTES: usize = 128 << 10;

/// How a file is compressed. Ordered as Kiln prefers them: the fastest to read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// `.zst`
    Zstd,
    /// `.xz`
    Xz,
    /// `.gz`
    Gzip,
    /// Not compressed.
    None,
}

/// What is wrong with a compressed stream; arrives as the inner error of an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// The stream ends too early, or has not even begun.
    #[error("{0} stream is truncated")]
    Truncated(Compression),
    /// The stream breaks its own rules or checksums, or something stands behind its end.
    #[error("{compression} stream is corrupt")]
    Corrupt {
        /// Which kind.
        compression: Compression,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// More came out than was allowed.
    #[error("{compression} stream is larger than {limit_bytes} bytes when decompressed")]
    TooLarge {
        /// Which kind.
        compression: Compression,
        /// What was allowed.
        limit_bytes: u64,
    },
}

/// The name of a file says that it is compressed in a way Kiln does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is compressed in a way that is not supported (xz, gz and zst are)")]
pub struct UnsupportedCompression {
    name: String,
}

impl Compression {
    /// All of them, the preferred first.
    pub const ALL: [Self; 4] = [Self::Zstd, Self::Xz, Self::Gzip, Self::None];

    /// What is added to the name of a file compressed so: `.xz`; empty for none.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Xz => ".xz",
            Self::Gzip => ".gz",
            Self::None => "",
        }
    }

    /// How the file called `name` is compressed, by its suffix.
    ///
    /// # Errors
    /// For `.bz2`, `.lzma` and `.lz4`, which Debian knows and Kiln does not read.
    pub fn of_name(name: &str) -> Result<Self, UnsupportedCompression> {
        if [".bz2", ".lzma", ".lz4"].iter().any(|suffix| name.ends_with(suffix)) {
            return Err(UnsupportedCompression { name: name.to_owned() });
        }
        let compressed = [Self::Zstd, Self::Xz, Self::Gzip].into_iter().find(|kind| name.ends_with(kind.suffix()));
        Ok(compressed.unwrap_or(Self::None))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Gzip => "gzip",
            Self::None => "uncompressed",
        })
    }
}

/// Reads what `reader` holds compressed; more than `limit_bytes` of output is an error.
///
/// What is wrong with the stream itself is a [`DecompressError`] inside the [`io::Error`]. The end is reported only
/// when the stream was whole and nothing follows it, so a caller who reads to the end has checked it all.
pub fn decompress<'a, R: Read + Send + 'a>(
    compression: Compression,
    reader: R,
    limit_bytes: u64,
) -> Box<dyn Read + Send + 'a> {
    let input = BufReader::with_capacity(INPUT_BYTES, Source(reader));
    let decoder = match compression {
        Compression::None => Ok(Box::new(input) as Box<dyn Read + Send + 'a>),
        Compression::Gzip => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(NotEmpty::new(input))) as _),
        Compression::Xz => xz(NotEmpty::new(input)),
        Compression::Zstd => zstd(NotEmpty::new(input)),
    };
    match decoder {
        Ok(decoder) => Box::new(Checked { decoder, compression, limit_bytes, left_bytes: limit_bytes }),
        Err(error) => Box::new(Unusable(Some(error))),
    }
}

fn xz<'a>(input: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES_MAX, liblzma::stream::CONCATENATED)?;
    Ok(Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream)))
}

fn zstd<'a>(input: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(Box::new(decoder))
}

/// Marks the errors of the reader below, so that [`Checked`] can tell them from the decoder's.
struct Source<R>(R);

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct SourceError(io::Error);

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, SourceError(error)),
        })
    }
}

/// Refuses an input without a single byte: no compressed stream is empty, but some decoders think so.
struct NotEmpty<R> {
    input: R,
    begun: bool,
}

impl<R> NotEmpty<R> {
    fn new(input: R) -> Self {
        Self { input, begun: false }
    }
}

impl<R: BufRead> BufRead for NotEmpty<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let buffer = self.input.fill_buf()?;
        if buffer.is_empty() && !self.begun {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.begun = true;
        Ok(buffer)
    }

    fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
    }
}

impl<R: BufRead> Read for NotEmpty<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

/// Holds the decoder to its limit and gives its errors a name.
struct Checked<'a> {
    decoder: Box<dyn Read + Send + 'a>,
    compression: Compression,
    limit_bytes: u64,
    left_bytes: u64,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.decoder.read(buffer).map_err(|error| self.named(error))?;
        match self.left_bytes.checked_sub(length as u64) {
            Some(left) => self.left_bytes = left,
            None => return Err(self.too_large()),
        }
        Ok(length)
    }
}

impl Checked<'_> {
    fn named(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::Interrupted {
            return error;
        }
        let compression = self.compression;
        let error = match error.downcast::<SourceError>() {
            Ok(SourceError(below)) => return below,
            Err(error) => error,
        };
        invalid(match error.kind() {
            io::ErrorKind::UnexpectedEof => DecompressError::Truncated(compression),
            _ => DecompressError::Corrupt { compression, source: error },
        })
    }

    fn too_large(&self) -> io::Error {
        invalid(DecompressError::TooLarge { compression: self.compression, limit_bytes: self.limit_bytes })
    }
}

fn invalid(error: DecompressError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A decoder that could not be set up: says why, then ends.
struct Unusable(Option<io::Error>);

impl Read for Unusable {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const COMPRESSED: [Compression; 3] = [Compression::Zstd, Compression::Xz, Compression::Gzip];

    fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => bytes.to_vec(),
            Compression::Zstd => zstd::stream::encode_all(bytes, 3).unwrap(),
            Compression::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn read(compression: Compression, bytes: &[u8], limit_bytes: u64) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        decompress(compression, bytes, limit_bytes).read_to_end(&mut text)?;
        Ok(text)
    }

    fn check_error(compression: Compression, bytes: &[u8], expected: &str) {
        let error = read(compression, bytes, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), format!("{compression} stream is {expected}"));
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    fn sample() -> Vec<u8> {
        (0..200_000_u32).flat_map(|number| (number / 3).to_le_bytes()).collect()
    }

    #[test]
    fn what_is_compressed_reads_back() {
        for compression in Compression::ALL {
            for bytes in [sample(), Vec::new(), b"x".to_vec()] {
                assert_eq!(read(compression, &compress(compression, &bytes), 1 << 20).unwrap(), bytes, "{compression}");
            }
        }
    }

    #[test]
    fn several_streams_are_one() {
        for compression in COMPRESSED {
            let twice = [compress(compression, b"one "), compress(compression, b"two")].concat();
            assert_eq!(read(compression, &twice, 100).unwrap(), b"one two", "{compression}");
        }
    }

    #[test]
    fn every_truncation_is_named() {
        for compression in COMPRESSED {
            let whole = compress(compression, b"the text of an index, long enough to be compressed");
            for length in 0..whole.len() {
                check_error(compression, &whole[..length], "truncated");
            }
            let large = compress(compression, &sample());
            check_error(compression, &large[..large.len() / 2], "truncated");
        }
    }

    #[test]
    fn garbage_behind_the_end_is_refused() {
        for compression in COMPRESSED {
            let whole = compress(compression, b"text");
            check_error(compression, &[&whole[..], b"garbage, and enough of it to be a header"].concat(), "corrupt");
        }
    }

    #[test]
    fn damage_is_refused() {
        for compression in COMPRESSED {
            let mut damaged = compress(compression, &sample());
            damaged[0] ^= 1;
            check_error(compression, &damaged, "corrupt");
        }
        // xz and gzip carry checksums of the text, so damage anywhere is noticed.
        for compression in [Compression::Xz, Compression::Gzip] {
            let mut damaged = compress(compression, &sample());
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0x55;
            assert!(read(compression, &damaged, 1 << 20).is_err(), "{compression}");
        }
    }

    #[test]
    fn the_limit_holds() {
        for compression in Compression::ALL {
            let compressed = compress(compression, &[0; 1000]);
            assert_eq!(read(compression, &compressed, 1000).unwrap().len(), 1000);
            let error = read(compression, &compressed, 999).unwrap_err();
            let expected = format!("{compression} stream is larger than 999 bytes when decompressed");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_stream_that_wants_too_much_memory_is_refused() {
        // `printf text | xz --lzma2=dict=512MiB`, and the same with the dictionary of `xz -6`.
        let greedy = "fd377a585a000004e6d6b44602002101220000008240acdc010003746578740055cde833ff4a0c17\
                      00011c046f2c9cc11fb6f37d010000000004595a";
        let modest = "fd377a585a000004e6d6b4460200210116000000742fe5a3010003746578740055cde833ff4a0c17\
                      00011c046f2c9cc11fb6f37d010000000004595a";
        assert_eq!(read(Compression::Xz, &hexadecimal(modest), 10).unwrap(), b"text");
        check_error(Compression::Xz, &hexadecimal(greedy), "corrupt");
    }

    fn hexadecimal(digits: &str) -> Vec<u8> {
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    #[test]
    fn errors_of_the_reader_pass_through() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the network went away"))
            }
        }
        for compression in Compression::ALL {
            let begin = compress(compression, &sample());
            let reader = io::Cursor::new(begin[..begin.len() / 2].to_vec()).chain(Broken);
            let error = decompress(compression, reader, u64::MAX).read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::TimedOut, "the network went away"));
        }
    }

    #[test]
    fn corruption_has_a_cause() {
        let error = read(Compression::Xz, b"not xz at all, but long enough", 100).unwrap_err();
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<DecompressError>()).unwrap();
        assert!(inner.source().is_some());
    }

    #[test]
    fn names_say_how() {
        let of_name = |name| Compression::of_name(name).ok();
        assert_eq!(of_name("Packages.xz"), Some(Compression::Xz));
        assert_eq!(of_name("a/Packages.zst"), Some(Compression::Zstd));
        assert_eq!(of_name("data.tar.gz"), Some(Compression::Gzip));
        assert_eq!(of_name("Packages"), Some(Compression::None));
        assert_eq!(of_name("Packages.bz2"), None);
    }

    proptest! {
        #[test]
        fn mutations_never_panic(at in 0_usize..400, with in any::<u8>(), cut in 0_usize..400) {
            for compression in COMPRESSED {
                let mut bytes = compress(compression, b"Package: a\nVersion: 1\n\nPackage: b\nVersion: 2\n\n");
                bytes.truncate(cut.max(1));
                let length = bytes.len();
                bytes[at % length] ^= with;
                let _ = read(compression, &bytes, 10_000);
            }
        }
    }
}
