//! The picture as a browser shows it: it is drawn, and its pixels are looked at.

use std::path::Path;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use super::layout::{BOX_WIDTH, LINE, PAD, layout};
use super::tests::example;
use super::{Graph, Oper, svg};

/// Red, green and blue.
type Rgb = (u8, u8, u8);

fn drawn(svg: &str) -> Pixmap {
    let mut options = Options::default();
    options.fontdb_mut().load_system_fonts();
    let tree = Tree::from_str(svg, &options).expect("is SVG");
    let size = tree.size().to_int_size();
    let mut pixels = Pixmap::new(size.width(), size.height()).expect("has a size");
    resvg::render(&tree, Transform::default(), &mut pixels.as_mut());
    pixels
}

fn at(pixels: &Pixmap, x: u32, y: u32) -> Rgb {
    let pixel = pixels.pixel(x, y).expect("is inside");
    (pixel.red(), pixel.green(), pixel.blue())
}

/// What a state's box is filled with; a VTEP has none.
const fn fill(state: Option<Oper>) -> Rgb {
    match state {
        None => (0xdd, 0xf4, 0xff),
        Some(Oper::Up) => (0xda, 0xfb, 0xe1),
        Some(Oper::Down) => (0xff, 0xeb, 0xe9),
        Some(Oper::Unknown | Oper::ToBeDeleted) => (0xff, 0xf8, 0xc5),
    }
}

#[test]
fn every_box_has_the_colour_of_its_state_and_its_lines_of_text() {
    let graph = Graph::of(&example());
    let pixels = drawn(&svg::picture(&graph));
    // For people to look at.
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/topology.png");
    pixels.save_png(&target).expect("is written");
    for (node, place) in graph.nodes.iter().zip(&layout(&graph).places) {
        // Inside the border, where no text is.
        let (right, bottom) = (place.x + BOX_WIDTH - 4, place.y + place.height - 6);
        assert_eq!(at(&pixels, right, bottom), fill(node.oper), "{node:?}");
        for line in 0..(place.height - 2 * PAD) / LINE {
            let (left, top) = (place.x + PAD, place.y + PAD + line * LINE);
            let area = (top..top + LINE).flat_map(|y| (left..left + 90).map(move |x| (x, y)));
            let dark = area.filter(|(x, y)| at(&pixels, *x, *y).0 < 0xa0).count();
            // Without any font nothing is written: make test-native installs one.
            assert!(dark > 20, "{dark} dark pixels in line {line} of {node:?}");
        }
    }
}
