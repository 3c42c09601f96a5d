//! Netlink attributes in the kernel's own layout (`struct nlattr`, `linux/netlink.h`): a length, a
//! type, the value, each beginning at a multiple of four.

/// Bytes of an attribute's length and type.
pub(crate) const HEADER: usize = 4;
/// The bits of an attribute's type that number it (`NLA_TYPE_MASK`): without `NLA_F_NESTED` and
/// `NLA_F_NET_BYTEORDER`.
pub(crate) const TYPE_MASK: u16 = 0x3fff;

/// Attributes by their types. What is cut off ends them.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (kind, length) = header(bytes)?;
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Changes the values of attributes in place, by their types. What is cut off ends them.
pub(crate) fn change_each(mut bytes: &mut [u8], mut change: impl FnMut(u16, &mut [u8])) {
    while let Some((kind, length)) = header(bytes) {
        let Some(value) = bytes.get_mut(HEADER..length) else {
            return;
        };
        change(kind, value);
        let next = length.next_multiple_of(4).min(bytes.len());
        bytes = &mut bytes[next..];
    }
}

/// The type and the length of the first attribute.
fn header(bytes: &[u8]) -> Option<(u16, usize)> {
    let &[a, b, c, d] = bytes.first_chunk()?;
    let kind = u16::from_ne_bytes([c, d]) & TYPE_MASK;
    Some((kind, usize::from(u16::from_ne_bytes([a, b]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two attributes, of two bytes and of four; the second is nested.
    fn two() -> Vec<u8> {
        let header = |length: u16, kind: u16| [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        [
            header(6, 3),
            vec![1, 2, 0, 0],
            header(8, 7 | 1 << 15),
            vec![3, 4, 5, 6],
        ]
        .concat()
    }

    #[test]
    fn attributes_are_read_and_changed_by_their_types() {
        let mut bytes = two();
        let read = |bytes: &[u8]| -> Vec<(u16, Vec<u8>)> {
            attributes(bytes)
                .map(|(kind, value)| (kind, value.to_vec()))
                .collect()
        };
        assert_eq!(read(&bytes), [(3, vec![1, 2]), (7, vec![3, 4, 5, 6])]);
        change_each(&mut bytes, |kind, value| {
            if kind == 7 {
                value.fill(9);
            }
        });
        assert_eq!(read(&bytes), [(3, vec![1, 2]), (7, vec![9; 4])]);
    }

    #[test]
    fn what_is_cut_off_or_too_short_ends_them() {
        for cut in 0..two().len() {
            let mut bytes = two();
            bytes.truncate(cut);
            assert!(attributes(&bytes).count() < 2, "{cut}");
            change_each(&mut bytes, |_, value| value.fill(0));
        }
        for bytes in [&[0, 0, 1, 0][..], &[200, 0, 1, 0, 5], &[3, 0, 1, 0]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
            change_each(&mut bytes.to_vec(), |_, _| unreachable!("{bytes:?}"));
        }
    }
}
