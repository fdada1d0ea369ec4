use bench_memory::*;
struct Ours(slab::Slab<Item>);
impl Table for Ours {
    type Key = usize;
    const NAME: &'static str = "slabmem";
    #[inline(always)]
    fn new() -> Self { Self(slab::Slab::new()) }
    #[inline(always)]
    fn insert(&mut self, item: Item) -> Self::Key { self.0.insert(item) }
    #[inline(always)]
    fn remove(&mut self, key: Self::Key) -> Option<Item> { self.0.try_remove(key) }
    #[inline(always)]
    fn first_word(&self, key: Self::Key) -> Option<u64> { self.0.get(key).map(|item| item[0]) }
    #[inline(always)]
    fn sum(&self) -> u64 { 0 }
}
fn main() {
    let (mut t, mut k) = filled::<Ours>(10_000);
    let mut n = Numbers::new();
    let s = std::time::Instant::now();
    println!("{}", churn(&mut t, &mut k, &mut n, 50_000_000));
    println!("{}", s.elapsed().as_nanos() as f64 / 5e7);
}
