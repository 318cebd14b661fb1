//! How layers are printed: their sides, what is their own, and whether they have a bias, on one line.

/// Implements `ModuleDisplay` for a layer with the attributes of its own.
macro_rules! layer_display {
    ($Layer:ident, $layer:ident => { $($name:literal: $value:expr),* }) => {
        impl burn::module::ModuleDisplay for $Layer {
            fn custom_settings(&self) -> Option<burn::module::DisplaySettings> {
                burn::module::DisplaySettings::new().with_new_line_after_attribute(false).optional()
            }

            fn custom_content(&self, content: burn::module::Content) -> Option<burn::module::Content> {
                let $layer = self;
                content
                    .add("d_input", &$layer.d_input())
                    .add("d_output", &$layer.d_output())
                    $(.add($name, &$value))*
                    .add("bias", &$layer.bias.is_some())
                    .optional()
            }
        }
    };
}
pub(crate) use layer_display;

/// A block grid as the text form of a structure has it.
pub(crate) fn grid([output, input]: [usize; 2]) -> String {
    format!("{output}x{input}")
}
