//! Public keys that are well-formed and protect nothing: moduli that can be factored, and points that anybody can sign for.

/// The odd primes below 168. The first 39 primes are in the product that the faulty generator of ROCA built on.
const SMALL_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether a small prime divides the modulus (big-endian), or its primes were made by chips with the flaw called ROCA
/// (CVE-2017-15361): these are `k * M + (65537^a mod M)`, M being a product of the first primes, so that the modulus is a
/// power of 65537 modulo each of them. Of good keys one in 240 million looks the same by chance.
pub(super) fn is_factorable(modulus: &[u8]) -> bool {
    let residue = |prime: u32| modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
    SMALL_PRIMES.iter().any(|prime| residue(*prime) == 0)
        || SMALL_PRIMES.iter().all(|prime| is_power_of_65537(residue(*prime), *prime))
}

fn is_power_of_65537(number: u32, prime: u32) -> bool {
    let mut power = 1;
    for _ in 0..prime {
        if power == number {
            return true;
        }
        power = power * (65537 % prime) % prime;
    }
    false
}

/// Whether 32 bytes are a point of edwards25519 in its one right encoding (RFC 8032 section 5.1.3), and not one of the eight
/// of small order: for these, signatures exist that verify over any message. AWS-LC looks at a key's length only.
pub(super) fn is_good_ed25519_point(encoded: &[u8; 32]) -> bool {
    let mut y = Number([0; 4]);
    for (limb, bytes) in y.0.iter_mut().zip(encoded.chunks_exact(8)) {
        *limb = bytes.iter().rev().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
    }
    // The highest bit is the sign of x.
    y.0[3] &= u64::MAX >> 1;
    if y != y.reduced() || SMALL_ORDER.contains(&y) {
        return false;
    }
    // -x² + y² = 1 + d·x²·y², so there is an x if (y² - 1) / (d·y² + 1) is a square, and that it is if the product is.
    let square = y.times(y);
    let numerator = square.plus(P_MINUS_1);
    let denominator = D.times(square).plus(ONE);
    numerator.times(denominator).to_the_half_of_p_minus_1() == ONE
}

/// A number modulo p = 2^255 - 19, lowest limb first. Only for public values: its time depends on them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Number([u64; 4]);

const ONE: Number = Number([1, 0, 0, 0]);
const P: Number = Number([0xffff_ffff_ffff_ffed, u64::MAX, u64::MAX, u64::MAX >> 1]);
const P_MINUS_1: Number = Number([0xffff_ffff_ffff_ffec, u64::MAX, u64::MAX, u64::MAX >> 1]);
/// -121665/121666 (RFC 8032 section 5.1)
const D: Number = Number([0x75eb_4dca_1359_78a3, 0x0070_0a4d_4141_d8ab, 0x8cc7_4079_7779_e898, 0x5203_6cee_2b6f_fe73]);
/// The y of all points whose order divides 8: of the neutral one, of that of order 2, of those of order 4 and of order 8.
const SMALL_ORDER: [Number; 5] = [
    ONE,
    P_MINUS_1,
    Number([0; 4]),
    Number([0xb027_b2c2_8f95_e826, 0xf098_eff2_89f4_c345, 0x3933_c6d3_05ac_dfd5, 0x05fc_536d_8802_38b1]),
    Number([0x4fd8_4d3d_706a_17c7, 0x0f67_100d_760b_3cba, 0xc6cc_392c_fa53_202a, 0x7a03_ac92_77fd_c74e]),
];

impl Number {
    /// Below p. A number of 255 bits is at most 18 above it.
    fn reduced(self) -> Self {
        let mut difference = [0; 4];
        let mut borrow = false;
        for ((limb, own), prime) in difference.iter_mut().zip(self.0).zip(P.0) {
            let (partial, first) = own.overflowing_sub(prime);
            let (whole, second) = partial.overflowing_sub(u64::from(borrow));
            *limb = whole;
            borrow = first || second;
        }
        if borrow { self } else { Self(difference).reduced() }
    }

    fn plus(self, other: Self) -> Self {
        let mut wide = [0; 8];
        let mut carry = 0;
        for ((sum, left), right) in wide.iter_mut().zip(self.0).zip(other.0) {
            (*sum, carry) = split(u128::from(left) + u128::from(right) + carry);
        }
        (wide[4], _) = split(carry);
        Self::from_wide(wide)
    }

    fn times(self, other: Self) -> Self {
        let mut wide = [0; 8];
        for (low, left) in self.0.into_iter().enumerate() {
            let mut carry = 0;
            for (high, right) in other.0.into_iter().enumerate() {
                let product = u128::from(left) * u128::from(right) + u128::from(wide[low + high]) + carry;
                (wide[low + high], carry) = split(product);
            }
            (wide[low + 4], _) = split(carry);
        }
        Self::from_wide(wide)
    }

    /// 2^256 is 38 modulo p.
    fn from_wide(mut wide: [u64; 8]) -> Self {
        while wide[4..] != [0; 4] {
            let high = [wide[4], wide[5], wide[6], wide[7]];
            wide[4..].fill(0);
            let mut carry = 0;
            for (low, high) in wide.iter_mut().zip(high) {
                (*low, carry) = split(u128::from(high) * 38 + u128::from(*low) + carry);
            }
            (wide[4], _) = split(carry);
        }
        Self([wide[0], wide[1], wide[2], wide[3]]).reduced()
    }

    /// Euler's criterion: 1 if the number is a square other than 0. The exponent 2^254 - 10 has the bits of 2^254 - 1 but
    /// for the last four, which are 0110.
    fn to_the_half_of_p_minus_1(self) -> Self {
        let mut power = ONE;
        for bit in (0..254).rev() {
            power = power.times(power);
            if !matches!(bit, 0 | 3) {
                power = power.times(self);
            }
        }
        power
    }
}

/// Lower limb and carry.
fn split(number: u128) -> (u64, u128) {
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is the carry")]
    let low = number as u64;
    (low, number >> 64)
}
