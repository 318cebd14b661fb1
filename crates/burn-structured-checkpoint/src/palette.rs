//! The colours of every plot that the workspace writes.

/// Six colours that colour-blind readers tell apart, as red, green and blue: those of Okabe and Ito (*Color Universal Design*, 2008)
/// without the yellow, which is too light for points on white. Black stands for what all are compared with.
pub const PALETTE: [[u8; 3]; 6] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [230, 159, 0]];
