//! Where nodes stand in a ratchet tree kept as an array: leaves at even indices, parents between them.
//!
//! Source: RFC 9420, appendix C.

/// Index of the node of a leaf.
pub(crate) const fn of_leaf(leaf: u32) -> usize {
    (leaf as usize) << 1
}

/// The leaf at a node, if the node is one.
pub(crate) fn to_leaf(node: usize) -> Option<u32> {
    if node & 1 == 0 {
        u32::try_from(node >> 1).ok()
    } else {
        None
    }
}

/// Height of a node above the leaves.
pub(crate) const fn height(node: usize) -> u32 {
    node.trailing_ones()
}

/// The root of a tree of `nodes` nodes, which is one less than a power of two.
pub(crate) const fn root(nodes: usize) -> usize {
    nodes >> 1
}

/// The node above.
pub(crate) const fn parent(node: usize) -> usize {
    let bit = 1 << height(node);
    (node | bit) & !(bit << 1)
}

/// The left and the right child; `None` for leaves.
pub(crate) const fn children(node: usize) -> Option<(usize, usize)> {
    match height(node) {
        0 => None,
        height => {
            let bit = 1 << (height - 1);
            Some((node ^ bit, node + bit))
        }
    }
}

/// The other child of the node above.
pub(crate) const fn sibling(node: usize) -> usize {
    node ^ (2 << height(node))
}

/// The nodes above a leaf up to the root, each with the child off the path, from the bottom up.
pub(crate) fn path_with_copath(leaf: u32, nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut node = of_leaf(leaf);
    std::iter::from_fn(move || {
        if node >= nodes || node == root(nodes) {
            return None;
        }
        let copath = sibling(node);
        node = parent(node);
        Some((node, copath))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_eight_leaves_is_the_one_of_the_rfc() {
        assert_eq!(root(15), 7);
        assert_eq!(root(1), 0);
        assert_eq!(
            [
                parent(0),
                parent(1),
                parent(3),
                parent(5),
                parent(9),
                parent(13)
            ],
            [1, 3, 7, 3, 11, 11]
        );
        assert_eq!(children(7), Some((3, 11)));
        assert_eq!(children(9), Some((8, 10)));
        assert_eq!(children(4), None);
        assert_eq!(
            [sibling(0), sibling(1), sibling(3), sibling(11), sibling(9)],
            [2, 5, 11, 3, 13]
        );
        assert_eq!(
            path_with_copath(0, 15).collect::<Vec<_>>(),
            [(1, 2), (3, 5), (7, 11)]
        );
        assert_eq!(
            path_with_copath(7, 15).collect::<Vec<_>>(),
            [(13, 12), (11, 9), (7, 3)]
        );
        assert_eq!(path_with_copath(0, 1).count(), 0);
        assert_eq!(path_with_copath(9, 15).count(), 0);
    }

    #[test]
    fn parents_and_children_are_each_others() {
        for node in (1..1023_usize).step_by(2) {
            let (left, right) = children(node).unwrap();
            assert_eq!((parent(left), parent(right)), (node, node));
            assert_eq!((sibling(left), sibling(right)), (right, left));
        }
    }
}
