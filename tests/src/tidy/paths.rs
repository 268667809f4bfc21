//! The paths that a file names, and the names that it defines: what the rules for imports are
//! applied to.
//!
//! Paths are found in `use` and `extern crate` items, in code, in attributes, and in the tokens of
//! macro calls and `macro_rules!` bodies, where `$crate` counts as `crate`. Code that is compiled
//! for tests only is left out.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Source;

/// A path in the code.
#[derive(Debug, Clone)]
pub struct Named {
    /// Line of the file, from 1.
    pub line: usize,
    /// The module that the path is in, from the crate's root on.
    pub module: Vec<String>,
    /// The segments. `crate`, `self` and `super` are resolved to `crate` and what follows;
    /// other paths start with a crate or with a name of the module.
    pub path: Vec<String>,
    /// `path::*`.
    pub glob: bool,
    /// `path as other`.
    pub renamed: bool,
    /// An import that other modules may import in turn (`pub use`).
    pub public: bool,
    /// `::path`: the first segment is a crate.
    pub absolute: bool,
}

/// The names of a module.
#[derive(Debug, Default)]
pub struct Scope {
    /// Items defined in the module, and its child modules.
    pub items: BTreeSet<String>,
    /// Names that the module imports, public or not, since its children see both, with what they
    /// stand for.
    pub imports: BTreeMap<String, Named>,
    /// Modules (or enums) of which it imports every name.
    pub globs: Vec<Named>,
}

/// What a file names and defines.
#[derive(Debug)]
pub struct Paths {
    module: Vec<String>,
    /// Whether the current item is visible outside of its module.
    public: bool,
    /// All paths, in no particular order.
    pub named: Vec<Named>,
    /// The file's module and the modules inside it.
    pub scopes: BTreeMap<Vec<String>, Scope>,
}

impl Paths {
    /// Those of a file, which is the module `module`.
    ///
    /// # Panics
    /// If the file is not valid Rust code.
    #[must_use]
    pub fn of(source: &Source, module: &[String]) -> Self {
        let text = source.lines.join("\n");
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", source.path));
        let mut paths = Self {
            module: module.to_vec(),
            public: false,
            named: Vec::new(),
            scopes: BTreeMap::from([(module.to_vec(), Scope::default())]),
        };
        paths.visit_file(&file);
        paths
    }

    fn scope(&mut self) -> &mut Scope {
        self.scopes.entry(self.module.clone()).or_default()
    }

    /// A path of the current module.
    fn named(&self, line: usize, segments: &[String]) -> Named {
        let mut path = match segments.first().map(String::as_str) {
            Some("crate") => vec!["crate".to_owned()],
            Some("self" | "super") => [&["crate".to_owned()], &self.module[..]].concat(),
            _ => Vec::new(),
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => {
                    path.pop();
                }
                _ => path.push(segment.clone()),
            }
        }
        Named {
            line,
            module: self.module.clone(),
            path,
            public: self.public,
            glob: false,
            renamed: false,
            absolute: false,
        }
    }

    fn use_item(&mut self, item: &syn::ItemUse) {
        self.public = !matches!(item.vis, syn::Visibility::Inherited);
        self.tree(&[], item.leading_colon.is_some(), &item.tree);
        self.public = false;
    }

    /// Adds the paths of a part of a `use` item, and what it adds to the names of the module.
    fn tree(&mut self, before: &[String], absolute: bool, tree: &syn::UseTree) {
        let with = |ident: &Ident| [before, &[text(ident)]].concat();
        let line = tree.span().start().line;
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), absolute, &path.tree),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before, absolute, tree);
                }
            }
            syn::UseTree::Name(name) => {
                let mut named = self.named(line, &with(&name.ident));
                named.absolute = absolute;
                if let Some(last) = named.path.last().cloned() {
                    self.scope().imports.insert(last, named.clone());
                }
                self.named.push(named);
            }
            syn::UseTree::Rename(name) => {
                let mut named = self.named(line, &with(&name.ident));
                (named.absolute, named.renamed) = (absolute, true);
                let new = text(&name.rename);
                self.scope().imports.insert(new, named.clone());
                self.named.push(named);
            }
            syn::UseTree::Glob(_) => {
                let mut named = self.named(line, before);
                (named.absolute, named.glob) = (absolute, true);
                self.scope().globs.push(named.clone());
                self.named.push(named);
            }
        }
    }

    fn extern_crate(&mut self, item: &syn::ItemExternCrate) {
        let mut named = self.named(item.span().start().line, &[text(&item.ident)]);
        (named.absolute, named.renamed) = (true, item.rename.is_some());
        if let Some((_, rename)) = &item.rename {
            let new = text(rename);
            self.scope().imports.insert(new, named.clone());
        }
        self.named.push(named);
    }

    /// Adds the paths of the tokens of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = match &tokens[at] {
                TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    at + 1
                }
                TokenTree::Ident(ident) if ident == "use" || ident == "extern" => {
                    self.item_tokens(&tokens, at).unwrap_or(at + 1)
                }
                TokenTree::Ident(_) => self.path_tokens(&tokens, at),
                _ => at + 1,
            };
        }
    }

    /// A `use` or `extern crate` item that starts at `at`; its end, if it is one.
    fn item_tokens(&mut self, tokens: &[TokenTree], at: usize) -> Option<usize> {
        let length = tokens[at..].iter().position(|token| is(token, ';'))?;
        let end = at + length + 1;
        // Without the `$` of `$crate`.
        let item = tokens[at..end].iter().filter(|token| !is(token, '$'));
        let item: TokenStream = item.cloned().collect();
        if let Ok(item) = syn::parse2::<syn::ItemUse>(item.clone()) {
            self.use_item(&item);
        } else {
            self.extern_crate(&syn::parse2(item).ok()?);
        }
        Some(end)
    }

    /// A path `a::b` or `a::{b, c}` that starts at `at`; where the tokens after it start.
    fn path_tokens(&mut self, tokens: &[TokenTree], start: usize) -> usize {
        let before = |back: usize, punct| {
            start
                .checked_sub(back)
                .is_some_and(|i| is(&tokens[i], punct))
        };
        let line = tokens[start].span().start().line;
        let (mut segments, mut at) = (Vec::new(), start);
        while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
            segments.push(text(ident));
            at += 1;
            if !(tokens.get(at).is_some_and(|t| is(t, ':'))
                && tokens.get(at + 1).is_some_and(|t| is(t, ':')))
            {
                break;
            }
            at += 2;
        }
        let continued = is(&tokens[at - 1], ':');
        if let Some(TokenTree::Group(group)) = tokens.get(at)
            && continued
            && group.delimiter() == Delimiter::Brace
            && let Ok(tree) = syn::parse2::<syn::UseTree>(TokenTree::from(group.clone()).into())
        {
            self.tree(&segments, false, &tree);
            return at + 1;
        }
        // The arguments of the macro have names of their own: `$name::x` could be any path.
        let argument = before(1, '$') && segments[0] != "crate";
        if segments.len() > 1 && !argument {
            let mut named = self.named(line, &segments);
            named.absolute = before(1, ':') && before(2, ':');
            named.glob = continued && tokens.get(at).is_some_and(|t| is(t, '*'));
            self.named.push(named);
        }
        at
    }
}

/// A raw identifier is the same name as a plain one.
fn text(ident: &Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

fn is(token: &TokenTree, punct: char) -> bool {
    matches!(token, TokenTree::Punct(p) if p.as_char() == punct)
}

/// Whether an item with these attributes is compiled for tests only.
#[must_use]
pub fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .meta
                .require_list()
                .is_ok_and(|list| requires_test(list.tokens.clone()))
    })
}

/// Whether a line is an attribute of an item that is compiled for tests only.
#[must_use]
pub fn is_test_line(line: &str) -> bool {
    syn::Attribute::parse_outer
        .parse_str(line)
        .is_ok_and(|attributes| is_test(&attributes))
}

/// Whether the predicate of a `cfg` has `test` or `loom` outside of `not(..)`.
fn requires_test(predicate: TokenStream) -> bool {
    let mut negated = false;
    predicate.into_iter().any(|token| {
        let found = match &token {
            TokenTree::Ident(ident) => ident == "test" || ident == "loom",
            TokenTree::Group(group) => !negated && requires_test(group.stream()),
            _ => false,
        };
        negated = matches!(&token, TokenTree::Ident(ident) if ident == "not");
        found
    })
}

/// The name that an item gives to what it defines.
fn item_name(item: &syn::Item) -> Option<&Ident> {
    Some(match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        syn::Item::Mod(item) => &item.ident,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::TraitAlias(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        _ => return None,
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if let Some(name) = item_name(item) {
            let name = text(name);
            self.scope().items.insert(name);
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            self.module.push(text(&module.ident));
            visit::visit_item_mod(self, module);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.use_item(item);
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        if !is_test(&item.attrs) {
            self.extern_crate(item);
        }
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if !is_test(&item.attrs) {
            visit::visit_item_macro(self, item);
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.tokens(list.tokens.clone());
        visit::visit_meta_list(self, list);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments: Vec<_> = path.segments.iter().map(|s| text(&s.ident)).collect();
            let mut named = self.named(path.span().start().line, &segments);
            named.absolute = path.leading_colon.is_some();
            self.named.push(named);
        }
        visit::visit_path(self, path);
    }
}
