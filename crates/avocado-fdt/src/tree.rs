//! The tree itself: nodes with properties, in the order of the file.

/// A device tree and what its file says beside it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceTree {
    /// Physical id of the processor that boots.
    pub boot_cpu: u32,
    /// Memory that the system must leave alone, in the order of the file.
    pub reservations: Vec<MemoryReservation>,
    /// The node `/`. Its name is empty.
    pub root: DeviceTreeNode,
}

/// A range of physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryReservation {
    /// Where it begins.
    pub address: u64,
    /// How many bytes it has. With address 0 this is never 0: such an entry ends the list.
    pub size: u64,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceTreeNode {
    /// Its name with its unit address: `cpu@0`.
    pub name: String,
    /// Its properties, in the order of the file.
    pub properties: Vec<DeviceTreeProperty>,
    /// The nodes below it, in the order of the file.
    pub children: Vec<DeviceTreeNode>,
}

/// A property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceTreeProperty {
    /// Its name.
    pub name: String,
    /// Its value; what the bytes mean depends on the name.
    pub value: Vec<u8>,
}

impl DeviceTreeNode {
    /// A node without properties.
    pub fn new(name: impl Into<String>) -> Self {
        DeviceTreeNode {
            name: name.into(),
            ..DeviceTreeNode::default()
        }
    }

    /// The node below this one with this name.
    pub fn child(&self, name: &str) -> Option<&DeviceTreeNode> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The same, to change it.
    pub fn child_mut(&mut self, name: &str) -> Option<&mut DeviceTreeNode> {
        self.children.iter_mut().find(|child| child.name == name)
    }

    /// The value of a property.
    pub fn property(&self, name: &str) -> Option<&[u8]> {
        let property = self.properties.iter().find(|one| one.name == name);
        property.map(|property| property.value.as_slice())
    }

    /// Sets a property: in its place, or after the others.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        let value = value.into();
        match self.properties.iter_mut().find(|one| one.name == name) {
            Some(property) => property.value = value,
            None => self.properties.push(DeviceTreeProperty {
                name: name.to_owned(),
                value,
            }),
        }
    }

    /// Sets a property to a number of 32 bits.
    pub fn set_cell(&mut self, name: &str, value: u32) {
        self.set(name, value.to_be_bytes());
    }

    /// Sets a property to a text.
    pub fn set_text(&mut self, name: &str, value: &str) {
        self.set(name, [value.as_bytes(), b"\0"].concat());
    }

    /// A property that is one number of 32 bits.
    pub fn cell(&self, name: &str) -> Option<u32> {
        let bytes = self.property(name)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }

    /// The texts of a property that is a list of them.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let value = self.property(name).unwrap_or_default();
        value
            .split_inclusive(|byte| *byte == 0)
            .filter_map(|text| std::str::from_utf8(text.strip_suffix(b"\0")?).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_keep_their_place() {
        let mut node = DeviceTreeNode::new("cpu@0");
        node.set_cell("reg", 1);
        node.set_text("compatible", "arm,armv8");
        node.set_cell("reg", 2);
        let names: Vec<_> = node.properties.iter().map(|one| &one.name).collect();
        assert_eq!(names, ["reg", "compatible"]);
        assert_eq!(node.cell("reg"), Some(2));
        assert_eq!(node.cell("compatible"), None);
        assert_eq!(node.cell("nothing"), None);
    }

    #[test]
    fn lists_of_texts() {
        for (value, texts) in [
            (&b""[..], &[][..]),
            (b"one\0", &["one"]),
            (b"one\0two\0", &["one", "two"]),
            (b"one\0\0two\0", &["one", "", "two"]),
            (b"unfinished", &[]),
            (b"one\0unfinished", &["one"]),
            (b"\xff\0two\0", &["two"]),
        ] {
            let mut node = DeviceTreeNode::default();
            node.set("list", value);
            assert_eq!(node.texts("list").collect::<Vec<_>>(), texts);
        }
        assert_eq!(DeviceTreeNode::default().texts("list").count(), 0);
    }
}
