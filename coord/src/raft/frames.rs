//! How the log and the snapshots guard their bytes: `len:u32 crc32:u32 body`, little-endian; the checksum covers the
//! length and the body.

use bytes::Bytes;

/// Bytes before the body.
pub(super) const HEADER_LEN: usize = 8;

/// Appends one frame, whose body `body` writes.
pub(super) fn write(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; HEADER_LEN]);
    body(out);
    let header = header(&[&out[start + HEADER_LEN..]]);
    out[start..start + HEADER_LEN].copy_from_slice(&header);
}

/// The header of a frame whose body is `parts`, one behind the other.
pub(super) fn header(parts: &[&[u8]]) -> [u8; HEADER_LEN] {
    let len = parts.iter().map(|part| part.len()).sum::<usize>() as u32;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len.to_le_bytes());
    for part in parts {
        hasher.update(part);
    }
    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[4..].copy_from_slice(&hasher.finalize().to_le_bytes());
    header
}

/// The body of the frame at the start of `bytes`; `None` if there is no whole frame or its checksum does not hold.
pub(super) fn read(bytes: &Bytes) -> Option<Bytes> {
    let end = HEADER_LEN + body_len(bytes)?;
    let body = bytes.get(HEADER_LEN..end)?;
    (header(&[body]) == bytes[..HEADER_LEN]).then(|| bytes.slice(HEADER_LEN..end))
}

/// How long the body of the frame at the start of `bytes` says that it is.
pub(super) fn body_len(bytes: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    Some(len as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_was_cut_or_changed_is_none() {
        let mut out = Vec::new();
        write(&mut out, |out| out.extend(b"body"));
        assert_eq!(
            read(&Bytes::from(out.clone())).as_deref(),
            Some(&b"body"[..])
        );
        for len in 0..out.len() {
            assert_eq!(read(&Bytes::copy_from_slice(&out[..len])), None);
        }
        for at in 0..out.len() {
            let mut changed = out.clone();
            changed[at] ^= 0x40;
            assert_eq!(read(&Bytes::from(changed)), None, "byte {at}");
        }
    }
}
