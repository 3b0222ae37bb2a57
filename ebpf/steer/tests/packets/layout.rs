//! The maps' layouts in Rust against the objects' own: BTF, read from the ELF by hand.

use steer::abi::{ACCEPT_LAYOUTS, Layout, STEER_LAYOUTS};

/// A structure of BTF: name, bytes, members with their offsets.
type Struct = (String, usize, Vec<(String, usize)>);

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i])) as usize
}

/// A section of a little-endian ELF64 file.
fn section<'a>(elf: &'a [u8], name: &str) -> &'a [u8] {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
    let (table, size, count, names) = (u32_at(elf, 40), u16_at(58), u16_at(60), u16_at(62));
    let header = |index: usize| table + index * size;
    let bytes = |index: usize| {
        let start = u32_at(elf, header(index) + 24);
        &elf[start..start + u32_at(elf, header(index) + 32)]
    };
    let strings = bytes(names);
    let found = (0..count).find(|index| text(strings, u32_at(elf, header(*index))) == name);
    bytes(found.expect("the section is there"))
}

fn text(strings: &[u8], at: usize) -> String {
    let end = strings[at..].iter().position(|byte| *byte == 0).expect("it ends");
    String::from_utf8_lossy(&strings[at..at + end]).into_owned()
}

/// All structures of a `.BTF` section (Documentation/bpf/btf.rst).
fn structs(btf: &[u8]) -> Vec<Struct> {
    let head = u32_at(btf, 4);
    let (types, types_bytes, strings) = (head + u32_at(btf, 8), u32_at(btf, 12), head + u32_at(btf, 16));
    let strings = &btf[strings..];
    let (mut at, mut found) = (types, Vec::new());
    while at < types + types_bytes {
        let (name, info, size) = (text(strings, u32_at(btf, at)), u32_at(btf, at + 4), u32_at(btf, at + 8));
        let (kind, count) = ((info >> 24) & 31, info & 0xffff);
        at += 12;
        let member_bytes = match kind {
            1 | 14 | 17 => 4 * if kind == 1 || kind == 14 || kind == 17 { 1 } else { count },
            3 => 12,
            4 | 5 => count * 12,
            6 => count * 8,
            13 => count * 8,
            15 => count * 12,
            19 => count * 12,
            _ => 0,
        };
        if kind == 4 {
            let member = |index: usize| at + index * 12;
            let members = (0..count).map(|index| {
                (text(strings, u32_at(btf, member(index))), (u32_at(btf, member(index) + 8) & 0xff_ffff) / 8)
            });
            found.push((name, size, members.collect()));
        }
        at += member_bytes;
    }
    found
}

fn check(object: &[u8], layouts: &[Layout]) {
    let structs = structs(section(object, ".BTF"));
    for (name, size, fields) in layouts {
        let found = structs.iter().find(|(it, ..)| it == name).unwrap_or_else(|| panic!("no struct {name} in BTF"));
        let fields: Vec<(String, usize)> = fields.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
        assert_eq!((found.1, &found.2), (*size, &fields), "struct {name}");
    }
}

#[test]
fn twins_are_as_the_objects_say() {
    let (Ok(steer), Ok(accept)) = (programs::STEER, programs::ACCEPT) else {
        crate::say_skipped("layouts of the programs' maps: no objects in this build");
        return;
    };
    check(steer, STEER_LAYOUTS);
    check(accept, ACCEPT_LAYOUTS);
}
