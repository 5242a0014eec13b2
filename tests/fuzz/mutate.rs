//! Changes inputs as a fuzzer without coverage would, the same way in every run.

/// A sequence of numbers that looks random and never changes (SplitMix64; Steele, Lea, Flood 2014).
pub(crate) struct Numbers(pub(crate) u64);

/// Bytes that matter to the parsers here, and would take long to be met by chance.
const WORDS: [&[u8]; 44] = [
    b"%2e",
    b"%2F",
    b"%25",
    b"%00",
    b"%3b",
    b"..",
    b"//",
    b"/",
    b"\\",
    b";",
    b"?",
    b"#",
    b"*",
    b"{a}",
    b"{*r}",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\t",
    b" ",
    b",",
    b":",
    b"=",
    b"==",
    b"&",
    b"+",
    b"\"",
    b"\\u0073",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"1e400",
    b"-1",
    b"Bearer ",
    b"_",
    b".",
    b"-",
    b"\xc3\xa9",
    b"\xff",
    b"\xef\xbb\xbf",
    b"--",
];

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let state = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^ (state >> 31)
    }

    /// Below `bound`; 0 when there is nothing to choose from.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}

/// One of the seeds with one to four changes.
pub(crate) fn mutated(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(4) {
        change(&mut bytes, seeds, numbers);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len() + 1);
    let end = at + numbers.below((bytes.len() - at).min(24) + 1);
    match numbers.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
        1 if at < bytes.len() => bytes[at] = numbers.next().to_le_bytes()[0],
        2 => drop(bytes.drain(at..end)),
        3 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        4 => {
            let other = &seeds[numbers.below(seeds.len())];
            let from = numbers.below(other.len() + 1);
            let to = from + numbers.below((other.len() - from).min(48) + 1);
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        5 if end < bytes.len() => bytes[at..=end].reverse(),
        _ => {
            let word = WORDS[numbers.below(WORDS.len())];
            let end = if numbers.below(2) == 0 { at } else { end };
            bytes.splice(at..end, word.iter().copied());
        }
    }
}
