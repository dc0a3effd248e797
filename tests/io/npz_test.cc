// SPDX-License-Identifier: Apache-2.0
//
// NumPy files: what NumPy wrote, what we write byte by byte, and every way in which one can be
// wrong. tests/io/data/*.npz are numpy.savez (stored, ZIP64 headers) and numpy.savez_compressed.
#include "io/npz.h"

#include <zlib.h>

#include "io/zip_archive.h"
#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::Bytes;
using testing::put_file;
using testing::TempDir;
using testing::to_bytes;

std::string data_file(const std::string& name) {
  return std::string(FO_SOURCE_DIR) + "/tests/io/data/" + name;
}

// A version 1.0 array whose header is padded with nothing.
Bytes npy(const std::string& header, const Bytes& values = {}, int version = 1) {
  Bytes out = to_bytes("\x93NUMPY");
  out.push_back(static_cast<uint8_t>(version));
  out.push_back(0);
  const size_t length = header.size() + 1;
  for (size_t i = 0; i < (version == 1 ? 2u : 4u); ++i) {
    out.push_back(static_cast<uint8_t>(length >> 8 * i));
  }
  out.insert(out.end(), header.begin(), header.end());
  out.push_back('\n');
  out.insert(out.end(), values.begin(), values.end());
  return out;
}
const std::string kPair = "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }";

Bytes zip_of(const std::vector<std::pair<std::string, Bytes>>& members) {
  return *make_zip(members);
}
Bytes pair_zip() {
  return zip_of({{"x.npy", npy(kPair, {7, 9})}});
}

const TensorEntry* find(const NpzFile& file, const std::string& name) {
  for (const TensorEntry& t : file.tensors()) {
    if (t.name == name) return &t;
  }
  return nullptr;
}

void refuses(const Bytes& bytes, const std::string& what, StatusCode code) {
  const Status s = NpzFile::parse(bytes, "f.npz").status();
  EXPECT_EQ(s.code(), code) << s.message();
  EXPECT_NE(s.message().find(what), std::string::npos) << s.message() << "\nwanted: " << what;
  EXPECT_EQ(s.message().rfind("f.npz", 0), 0u) << s.message();
}
void refuses_header(const std::string& header, const std::string& what,
                    StatusCode code = StatusCode::kCorruptFile) {
  refuses(zip_of({{"x.npy", npy(header, {7, 9})}}), what, code);
}

TEST(Npz, ReadsWhatNumPyStored) {
  const auto file = NpzFile::open(data_file("flashinfer_bsr.npz"));
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  ASSERT_EQ(file->tensors().size(), 7u);
  const TensorEntry* indptr = find(*file, "indptr");
  ASSERT_NE(indptr, nullptr);
  EXPECT_EQ(indptr->to_string(), "'indptr' I32[7]");
  const int32_t wanted[] = {0, 2, 2, 7, 9, 12, 12};
  EXPECT_EQ(std::memcmp(read_tensor(*indptr)->data(), wanted, sizeof(wanted)), 0);
  const TensorEntry* m = find(*file, "M");
  ASSERT_NE(m, nullptr);
  EXPECT_TRUE(m->shape.empty());
  EXPECT_EQ((*read_tensor(*m))[0], 150);
}

TEST(Npz, ReadsWhatNumPyDeflated) {
  const auto file = NpzFile::open(data_file("sparge_mask.npz"));
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  const TensorEntry* mask = find(*file, "mask");
  ASSERT_NE(mask, nullptr);
  EXPECT_EQ(mask->to_string(), "'mask' BOOL[1,2,3,5]");
  EXPECT_EQ(*read_tensor(*mask), (Bytes{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1,
                                        1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0}));
}

// numpy.savez(x=numpy.array([7, 9], dtype=uint8)) but for the header's padding, by hand.
TEST(Npz, BytesOfAnArchive) {
  const Bytes array = npy(kPair, {7, 9});
  const uint32_t crc = uint32_t(crc32(0, array.data(), uInt(array.size())));
  const auto u32 = [](Bytes& b, uint32_t v) {
    for (int i = 0; i < 4; ++i) b.push_back(uint8_t(v >> 8 * i));
  };
  Bytes wanted = to_bytes("PK\x03\x04");
  Bytes both = {20, 0, 0, 0, 0, 0, 0, 0, 33, 0};
  u32(both, crc);
  u32(both, uint32_t(array.size()));
  u32(both, uint32_t(array.size()));
  both.insert(both.end(), {5, 0, 0, 0});
  wanted.insert(wanted.end(), both.begin(), both.end());
  for (const char c : std::string("x.npy")) wanted.push_back(uint8_t(c));
  wanted.insert(wanted.end(), array.begin(), array.end());
  const auto directory = uint32_t(wanted.size());
  EXPECT_EQ(directory, 30u + 5u + array.size());
  wanted.insert(wanted.end(), {'P', 'K', 1, 2, 20, 0});
  wanted.insert(wanted.end(), both.begin(), both.end());
  wanted.insert(wanted.end(), 14, 0);  // comment, part, attributes, offset
  for (const char c : std::string("x.npy")) wanted.push_back(uint8_t(c));
  wanted.insert(wanted.end(), {'P', 'K', 5, 6, 0, 0, 0, 0, 1, 0, 1, 0, 51, 0, 0, 0});
  u32(wanted, directory);
  wanted.insert(wanted.end(), {0, 0});
  EXPECT_EQ(pair_zip(), wanted);
}

TEST(Npz, WhatIsWrittenComesBack) {
  const TempDir folder;
  const std::vector<int32_t> numbers = {1, -2, 3, 4, 5, 6};
  const std::vector<float> none;
  const auto bytes = [](const auto& v) {
    return std::span(reinterpret_cast<const uint8_t*>(v.data()), v.size() * sizeof(v[0]));
  };
  const std::vector<TensorToWrite> tensors = {
      {"matrix", StoredDType::kI32, {2, 3}, bytes(numbers)},
      {"scalar", StoredDType::kI32, {}, bytes(numbers).first(4)},
      {"empty", StoredDType::kF32, {0, 4}, bytes(none)}};
  const std::string path = folder / "x.npz";
  ASSERT_TRUE(write_npz(path, tensors).ok());
  EXPECT_TRUE(is_npz(path));
  const auto back = NpzFile::open(path);
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  ASSERT_EQ(back->tensors().size(), 3u);
  for (const TensorToWrite& t : tensors) {
    const TensorEntry* e = find(*back, t.name);
    ASSERT_NE(e, nullptr) << t.name;
    EXPECT_EQ(e->shape, t.shape);
    EXPECT_EQ(e->dtype, t.dtype);
    EXPECT_EQ(*read_tensor(*e), Bytes(t.data.begin(), t.data.end()));
  }
  // As NumPy writes it, values start at a multiple of 64 bytes of their array.
  const Bytes bytes_of_file = testing::get_file(path);
  const auto members = list_zip(bytes_of_file, path);
  ASSERT_TRUE(members.ok()) << members.status().to_string();
  for (const ZipMember& m : *members) {
    EXPECT_EQ(parse_npy_header(m.stored, m.name)->data_offset % 64, 0u) << m.name;
  }
  EXPECT_EQ(write_npz(path, std::vector<TensorToWrite>{{"a/b", StoredDType::kI32, {}, {}}}).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(write_npz(path, std::vector<TensorToWrite>{{"a", StoredDType::kBF16, {0}, {}}}).code(),
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(NpzFile::open(path).ok()) << "a refusal leaves the file as it was";
}

TEST(Npz, HeadersOfAllVersionsAndOrders) {
  const std::string other = "{\"shape\": (1, 2) , 'fortran_order':True,'descr':'|b1'}   ";
  refuses_header(other, "Fortran order", StatusCode::kUnsupported);
  const Bytes flat = npy("{'shape':(2,),'fortran_order':True,'descr':'|b1'}", {0, 1}, 3);
  const auto header = parse_npy_header(flat, "x");
  ASSERT_TRUE(header.ok()) << header.status().to_string();
  EXPECT_EQ(header->shape, std::vector<int64_t>{2});
  EXPECT_EQ(header->data_offset, flat.size() - 2);
}

TEST(Npz, OtherTypesAreListedOnly) {
  const auto file = NpzFile::parse(
      zip_of({{"t.npy", npy("{'descr': '<U2', 'fortran_order': False, 'shape': ()}", {1, 2})},
              {"s.npy", npy("{'descr': [('a', '<i4', (2,))], 'fortran_order': False, "
                            "'shape': (1,)}")},
              {"b.npy", npy("{'descr': '>i4', 'fortran_order': False, 'shape': (1,)}")}}),
      "f.npz");
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  EXPECT_TRUE(file->tensors().empty());
  EXPECT_EQ(file->others(), (std::map<std::string, std::string>{
                                {"t", "<U2"}, {"s", "[('a', '<i4', (2,))]"}, {"b", ">i4"}}));
}

TEST(Npz, MalformedHeadersAreRefusedByName) {
  refuses_header("", "wanted a dictionary");
  refuses_header("{}", "descr, fortran_order and shape, once each");
  refuses_header("{'descr': '|u1', 'shape': (2,)}", "once each");
  refuses_header("{'descr': '|u1', 'descr': '|u1'}", "once each");
  refuses_header("{'name': 'x'}", "once each");
  refuses_header("{'descr': 3}", "wanted a type");
  refuses_header("{'descr': '|u1}", "wanted a type");
  refuses_header("{'descr': '|u\\u0031'}", "wanted a type");
  refuses_header("{'descr': [('a'}", "wanted a type");
  refuses_header("{'fortran_order': 0}", "wanted True or False");
  refuses_header("{'shape': 2}", "wanted a shape");
  refuses_header("{'shape': (2)}", "wanted a shape");
  refuses_header("{'shape': (-2,)}", "wanted a shape");
  refuses_header("{'shape': (2L,)}", "wanted a shape");
  refuses_header("{'shape': (99999999999999999999,)}", "wanted a shape");
  refuses_header("{'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1)}", "wanted a shape");
  refuses_header("{'descr': '|u1' 'shape': (2,)}", "wanted ',' or '}'");
  refuses_header("{'descr'; '|u1'}", "wanted a key");
  refuses_header(kPair + "x", "wanted the end of the header");
  refuses_header("{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}",
                 "has 2 bytes of values, wanted 3 for |u1(3,)");
  refuses_header("{'descr': '<f8', 'fortran_order': False, 'shape': (281474976710656, 65536)}",
                 "wanted more than a file holds");

  const auto array = [](Bytes bytes) { return zip_of({{"x.npy", std::move(bytes)}}); };
  refuses(array({}), "'x.npy' is no .npy array", StatusCode::kCorruptFile);
  refuses(array(to_bytes("NUMPY, but not like this")), "is no .npy array",
          StatusCode::kCorruptFile);
  refuses(array(npy(kPair, {7, 9}, 4)), "version 4.0", StatusCode::kUnsupported);
  Bytes cut = npy(kPair, {});
  cut.resize(cut.size() - 1);
  refuses(array(cut), "has a header of", StatusCode::kCorruptFile);
  refuses(zip_of({{"x.txt", npy(kPair, {7, 9})}}), "wanted one that ends in .npy",
          StatusCode::kCorruptFile);
}

// A byte or two of a good archive replaced, at an offset from its begin or (negative) its end.
TEST(Npz, MalformedArchivesAreRefusedByName) {
  const Bytes good = pair_zip();
  ASSERT_TRUE(NpzFile::parse(good, "f.npz").ok());
  const size_t array = npy(kPair, {7, 9}).size(), directory = 35 + array;
  struct Case {
    size_t at;
    Bytes bytes;
    const char* what;
    StatusCode code;
  };
  const size_t end = good.size() - 22;
  constexpr StatusCode kBad = StatusCode::kCorruptFile, kNot = StatusCode::kUnsupported;
  const Case cases[] = {
      {end, {'Q'}, "no end record", kBad},
      {end + 20, {1}, "no end record", kBad},
      {end + 4, {1}, "several parts", kNot},
      {end + 8, {2}, "several parts", kNot},
      {end + 8, {0xff, 0xff, 0xff, 0xff}, "ZIP64", kNot},
      {end + 16, {0xff, 0xff, 0xff, 0xff}, "ZIP64", kNot},
      {end + 12, {50}, "has its directory at", kBad},
      {end + 8, {0, 0, 0, 0}, "bytes after the last entry", kBad},
      {end + 8, {2, 0, 2, 0}, "no directory entry", kBad},
      {directory, {'Q'}, "no directory entry", kBad},
      {directory + 8, {1}, "'x.npy' is encrypted", kNot},
      {directory + 10, {14}, "compression method 14", kNot},
      {directory + 10, {8}, "differs from its directory entry", kBad},
      {directory + 16, {0, 0}, "another checksum", kBad},
      {directory + 20, {0xff, 0xff, 0xff, 0xff}, "ZIP64 sizes", kNot},
      {directory + 20, {0xff, 0xff}, "reaches beyond the directory", kBad},
      {directory + 24, {1, 2}, "stored bytes cannot hold", kBad},
      {directory + 28, {0xff}, "directory entry beyond its end", kBad},
      {directory + 42, {1}, "has no header at byte 1", kBad},
      {directory + 42, {0xff, 0xff}, "has no header at byte 65535", kBad},
      {26, {0xff, 0xff}, "reaches beyond the directory", kBad},
      {30, {'y'}, "differs from its directory entry", kBad},
      {35 + array - 1, {8}, "another checksum", kBad},
  };
  for (const Case& c : cases) {
    Bytes bad = good;
    std::copy(c.bytes.begin(), c.bytes.end(), bad.begin() + ptrdiff_t(c.at));
    refuses(bad, c.what, c.code);
  }
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(NpzFile::parse(Bytes(good.begin(), good.begin() + ptrdiff_t(size)), "f").ok())
        << size;
  }
  Bytes behind = good;
  behind.push_back(0);
  refuses(behind, "no end record", kBad);
  const Bytes array_bytes = npy(kPair, {7, 9});
  refuses(zip_of({{"x.npy", array_bytes}, {"x.npy", array_bytes}}), "'x.npy' twice", kBad);
}

// A member inside another one's bytes, and contents that deflate cannot hold.
TEST(Npz, ArchivesThatGrowWithoutEndAreRefused) {
  const Bytes array_bytes = npy(kPair, {7, 9});
  const Bytes inner = zip_of({{"y.npy", array_bytes}});
  const auto local = ptrdiff_t(35 + array_bytes.size());
  const Bytes outer = zip_of({{"x.npy", Bytes(inner.begin(), inner.begin() + local)}});
  Bytes both(outer.begin(), outer.end() - 22);
  Bytes entry(inner.begin() + local, inner.end() - 22);
  entry[42] = 35;  // where the inner header lies in the outer archive
  both.insert(both.end(), entry.begin(), entry.end());
  both.insert(both.end(), outer.end() - 22, outer.end());
  const size_t end = both.size() - 22;
  both[end + 8] = both[end + 10] = 2;
  both[end + 12] = 102;
  refuses(both, "holds members that overlap", StatusCode::kCorruptFile);

  const Bytes good = pair_zip();
  const size_t directory = 35 + array_bytes.size();
  Bytes bomb = good;
  bomb[8] = bomb[directory + 10] = 8;
  for (const size_t at : {22u, 23u, 24u, 25u}) bomb[directory + at + 2] = 0x7f;
  refuses(bomb, "stored bytes cannot hold", StatusCode::kCorruptFile);
  bomb = good;
  bomb[8] = bomb[directory + 10] = 8;
  refuses(bomb, "does not inflate to", StatusCode::kCorruptFile);
}

TEST(Npz, FilesThatAreNone) {
  const TempDir folder;
  EXPECT_EQ(NpzFile::open(folder / "none.npz").status().code(), StatusCode::kNotFound);
  EXPECT_FALSE(is_npz(folder / "none.npz"));
  put_file(folder / "x.npz", to_bytes("PK"));
  EXPECT_TRUE(is_npz(folder / "x.npz"));
  EXPECT_EQ(NpzFile::open(folder / "x.npz").status().code(), StatusCode::kCorruptFile);
}

}  // namespace
}  // namespace flashomni
