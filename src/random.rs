//! Randomness from the kernel: tokens that nobody guesses, pauses that do not coincide.

pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0u8; 8];
    random_bytes(&mut bytes);
    u64::from_le_bytes(bytes)
}

pub(crate) fn random_token() -> String {
    let mut bytes = [0u8; 16];
    random_bytes(&mut bytes);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn random_bytes(out: &mut [u8]) {
    // SAFETY: the pointer and length are those of `out`.
    let filled = unsafe { libc::getrandom(out.as_mut_ptr().cast(), out.len(), 0) };
    assert!(
        filled == out.len() as isize,
        "the kernel gives random bytes"
    );
}
