// The module that Python sees. What takes long is computed without the GIL.
#include <algorithm>
#include <array>
#include <optional>

#include "binding.hpp"
#include "bm25.hpp"
#include "sparse.hpp"

namespace ragmesh {
namespace {

// Values read and compared in about 200 us. Less is computed with the GIL: who lets go of it while
// other threads compute in Python waits for it longer than that.
constexpr size_t short_work = size_t{2} << 20;
constexpr size_t visits_per_candidate = 12;

// Lets go of the GIL for work on so many rows, unless it is short.
class LetGo {
   public:
    LetGo(size_t rows, size_t values_each) {
        if (rows > short_work / std::max<size_t>(values_each, 1)) released_.emplace();
    }

   private:
    std::optional<py::gil_scoped_release> released_;
};

struct Stopped : std::runtime_error {
    using std::runtime_error::runtime_error;
};

py::tuple as_arrays(Scored&& scored) {
    return py::make_tuple(given(std::move(scored.positions)), given(std::move(scored.scores)));
}

HeldGraph build_graph(const HeldRows& rows, const py::array& members, uint32_t m,
                      size_t ef_construction, uint64_t seed, const std::string& metric_name,
                      const HeldGraph* base, const py::object& stop) {
    const Metric metric = metric_of(metric_name);
    if (m < 2 || m > links_max)
        throw py::value_error("m is " + std::to_string(m) + ", expected 2.." +
                              std::to_string(links_max));
    if (ef_construction < 1) throw py::value_error("ef_construction is 0, expected at least 1");
    const auto chosen = positions_of(members, rows.rows.count, "members");
    const size_t first = base ? base->graph.count : 0;
    for (size_t i = 0; i < chosen.size(); ++i)
        if (chosen[i] < (i ? chosen[i - 1] + size_t{1} : first))
            throw py::value_error("members must ascend, from " + std::to_string(first) +
                                  " on, and " + std::to_string(chosen[i]) + " does not");
    if (base && (base->graph.m != m || base->graph.count > rows.rows.count))
        throw py::value_error("the base has m " + std::to_string(base->graph.m) + " and " +
                              std::to_string(base->graph.count) + " rows, expected m " +
                              std::to_string(m) + " and at most " +
                              std::to_string(rows.rows.count) + " rows");
    Plan plan;
    plan.m = m;
    plan.ef_construction = ef_construction;
    plan.seed = seed;
    plan.base = base ? &base->graph : nullptr;
    plan.stop = mask_of(stop, 1, "stop");
    Built built;
    std::string wrong;
    {
        py::gil_scoped_release released;
        if (base) wrong = faults(base->graph);
        if (wrong.empty())
            built = build(rows.rows, metric, chosen.data(), chosen.size(), plan);
    }
    if (!wrong.empty()) throw py::value_error("the base is damaged: " + wrong);
    if (built.stopped) throw Stopped("the graph was not finished: stop was set");
    const auto count = static_cast<py::ssize_t>(built.levels.size());
    const auto width = static_cast<py::ssize_t>(m) + 1;
    const auto upper = static_cast<py::ssize_t>(built.upper.size()) / width;
    return HeldGraph(given(std::move(built.level0), {count, 2 * py::ssize_t(m) + 1}),
                     given(std::move(built.levels)), given(std::move(built.upper), {upper, width}),
                     given(std::move(built.upper_start)), built.entry, built.max_level,
                     built.twins.empty() ? py::object(py::none())
                                         : py::object(given(std::move(built.twins))));
}

// What a walk found, best first, with its scores or those of the `precise` rows.
Scored by_score(const std::vector<Key>& found, Metric metric, const Rows* precise,
                const Query& query) {
    Scored out;
    std::vector<uint32_t> positions;
    std::vector<float> scores;
    for (const Key key : found) {
        positions.push_back(position_of(key));
        scores.push_back(score_of(metric, distance_of(key)));
    }
    if (precise) score(*precise, metric, query, positions.data(), positions.size(), scores.data());
    // Scores tie more often than distances: of these again by position.
    std::vector<Key> order;
    for (size_t i = 0; i < found.size(); ++i) order.push_back(key_of(-scores[i], positions[i]));
    std::sort(order.begin(), order.end());
    for (const Key key : order) {
        out.scores.push_back(-distance_of(key) + 0.0f);
        out.positions.push_back(position_of(key));
    }
    return out;
}

// What searches of one graph have in common, checked.
struct Walking {
    const HeldGraph& graph;
    const HeldRows& rows;
    const Rows* precise;
    Metric metric;
    Walk walk;

    Walking(const HeldGraph& graph, const HeldRows& rows, const HeldRows* precise, size_t k,
            size_t ef, const std::string& metric_name, const py::object& allowed,
            uint64_t visits_max, size_t settled)
        : graph(graph), rows(rows), precise(precise ? &precise->rows : nullptr),
          metric(metric_of(metric_name)) {
        if (precise && (precise->rows.count != rows.rows.count ||
                        precise->rows.dimensions != rows.rows.dimensions))
            throw py::value_error("the precise vectors have not the shape of the vectors");
        if (graph.graph.count != rows.rows.count)
            throw py::value_error("the graph has " + std::to_string(graph.graph.count) +
                                  " rows, the vectors have " + std::to_string(rows.rows.count));
        walk.k = std::min(k, rows.rows.count);
        walk.ef = std::min(ef, rows.rows.count);
        walk.settled = settled;
        walk.allowed = mask_of(allowed, rows.rows.count, "allowed");
        walk.visits_max = visits_max;
    }

    // Without the GIL.
    Found found(const Query& query, Scored& scored) const {
        Found out;
        if (rows.rows.kind == Kind::int8 && metric != Metric::euclidean) {
            Query codes = query;
            codes.encode(rows.rows.dimensions);
            out = search(graph.graph, rows.rows, metric, codes, walk);
        } else {
            out = search(graph.graph, rows.rows, metric, query, walk);
        }
        scored = by_score(out.best, metric, precise, query);
        return out;
    }
};

py::tuple search_graph(const HeldGraph& graph, const HeldRows& rows, const py::array& query,
                       size_t k, size_t ef, const std::string& metric,
                       const py::object& allowed, uint64_t visits_max, const HeldRows* precise,
                       size_t settled) {
    const Walking walking(graph, rows, precise, k, ef, metric, allowed, visits_max, settled);
    const Query prepared = query_of(rows, query);
    Scored scored;
    Found found;
    {
        const LetGo released(walking.walk.ef * visits_per_candidate, rows.rows.dimensions);
        found = walking.found(prepared, scored);
    }
    return py::make_tuple(given(std::move(scored.positions)), given(std::move(scored.scores)),
                          found.visited, found.complete);
}

// For threads that hand the GIL to each other after each query take a fifth longer for it.
py::list search_graph_together(const HeldGraph& graph, const HeldRows& rows,
                               const py::array& queries, size_t k, size_t ef,
                               const std::string& metric, const py::object& allowed,
                               uint64_t visits_max, const HeldRows* precise, size_t settled) {
    const Walking walking(graph, rows, precise, k, ef, metric, allowed, visits_max, settled);
    const auto* values = checked<float>(queries, "queries", "f4", 2);
    const size_t count = queries.shape(0), width = rows.rows.dimensions;
    if (static_cast<size_t>(queries.shape(1)) != width)
        throw py::value_error("the queries have " + std::to_string(queries.shape(1)) +
                              " dimensions, the vectors have " + std::to_string(width));
    std::vector<Scored> scored(count);
    std::vector<Found> found(count);
    {
        const LetGo released(count * walking.walk.ef * visits_per_candidate, width);
        for (size_t i = 0; i < count; ++i)
            found[i] = walking.found(Query(values + i * width, width), scored[i]);
    }
    py::list out;
    for (size_t i = 0; i < count; ++i)
        out.append(py::make_tuple(given(std::move(scored[i].positions)),
                                  given(std::move(scored[i].scores)), found[i].visited,
                                  found[i].complete));
    return out;
}

py::tuple scan_rows(const HeldRows& rows, const py::array& query, size_t k,
                    const std::string& metric_name, const py::object& allowed,
                    const py::object& positions, const HeldRows* coarse) {
    const Metric metric = metric_of(metric_name);
    const Query prepared = query_of(rows, query);
    if (coarse && (coarse->rows.kind != Kind::int8 || coarse->rows.count != rows.rows.count ||
                   coarse->rows.dimensions != rows.rows.dimensions))
        throw py::value_error("the coarse vectors are not the codes of the vectors");
    Choice choice;
    std::vector<uint32_t> taken;
    choice.allowed = mask_of(allowed, rows.rows.count, "allowed");
    static const uint32_t nothing = 0;
    if (!positions.is_none()) {
        if (choice.allowed)
            throw py::value_error("scan takes `allowed` or `positions`, not both");
        taken = positions_of(py::array(positions), rows.rows.count, "positions");
        choice.positions = taken.empty() ? &nothing : taken.data();
        choice.count = taken.size();
    }
    Scored scored;
    {
        const LetGo released(choice.positions ? choice.count : rows.rows.count, rows.rows.dimensions);
        scored = coarse && metric != Metric::euclidean
                     ? scan_by_codes(rows.rows, coarse->rows, metric, prepared, k, choice)
                     : scan(rows.rows, metric, prepared, k, choice);
    }
    return as_arrays(std::move(scored));
}

py::tuple encode_rows(const HeldRows& rows) {
    if (rows.rows.kind == Kind::int8)
        throw py::value_error("rows of int8 are codes already; expected float32 or float16");
    const size_t count = rows.rows.count;
    std::vector<int8_t> codes;
    std::vector<float> scales;
    {
        py::gil_scoped_release released;
        codes.resize(count * rows.rows.dimensions);
        scales.resize(count);
        encode(rows.rows, codes.data(), scales.data());
    }
    const auto width = static_cast<py::ssize_t>(rows.rows.dimensions);
    return py::make_tuple(given(std::move(codes), {static_cast<py::ssize_t>(count), width}),
                          given(std::move(scales)));
}

py::array_t<float> score_rows(const HeldRows& rows, const py::array& query,
                              const std::string& metric_name, const py::object& positions) {
    const Metric metric = metric_of(metric_name);
    const Query prepared = query_of(rows, query);
    std::vector<uint32_t> taken;
    if (!positions.is_none())
        taken = positions_of(py::array(positions), rows.rows.count, "positions");
    std::vector<float> out;
    {
        const LetGo released(positions.is_none() ? rows.rows.count : taken.size(), rows.rows.dimensions);
        if (positions.is_none()) {
            taken.resize(rows.rows.count);
            for (size_t i = 0; i < taken.size(); ++i) taken[i] = static_cast<uint32_t>(i);
        }
        out.resize(taken.size());
        score(rows.rows, metric, prepared, taken.data(), taken.size(), out.data());
    }
    return given(std::move(out));
}

py::tuple bm25_top(const py::sequence& lists, const py::array& lengths, double mean_length,
                   double k1, double b, const py::object& allowed, size_t k) {
    const auto* of = checked<uint32_t>(lengths, "lengths", "u4", 1);
    const auto count = static_cast<size_t>(lengths.shape(0));
    const uint8_t* mask = mask_of(allowed, count, "allowed");
    if (!mask && count > 0) throw py::value_error("allowed is None, expected a byte for each row");
    if (!(mean_length > 0) || !(k1 >= 0) || !(b >= 0 && b <= 1))
        throw py::value_error("mean_length must be above 0, k1 at least 0 and b in 0..1");
    std::vector<Postings> postings;
    std::vector<py::array> held;
    for (const auto& item : lists) {
        const auto entry = item.cast<std::tuple<py::array, py::array, double>>();
        const auto& [positions, frequencies, weight] = entry;
        const auto* at = checked<uint32_t>(positions, "positions", "u4", 1);
        const auto* often = checked<uint16_t>(frequencies, "frequencies", "u2", 1);
        if (positions.shape(0) != frequencies.shape(0))
            throw py::value_error("positions and frequencies of a word differ in length");
        if (!(weight > 0)) throw py::value_error("the weight of a word must be above 0");
        postings.push_back({at, often, static_cast<size_t>(positions.shape(0)), weight});
        held.push_back(positions);
        held.push_back(frequencies);
    }
    Scored scored;
    {
        size_t read = 0;
        for (const Postings& one : postings) read += one.count;
        const LetGo released(read, 32);
        scored = bm25(postings, of, count, {k1, b, mean_length}, mask, k);
    }
    return as_arrays(std::move(scored));
}

py::tuple sparse_top(const py::sequence& lists, size_t count, const py::object& allowed,
                     size_t k) {
    if (count >= UINT32_MAX)
        throw py::value_error(std::to_string(count) + " rows are too many, at most 4294967294");
    const uint8_t* mask = mask_of(allowed, count, "allowed");
    std::vector<Dimension> dimensions;
    std::vector<py::array> held;
    for (const auto& item : lists) {
        const auto entry = item.cast<std::tuple<py::array, py::array, float>>();
        const auto& [positions, values, weight] = entry;
        const auto* at = checked<uint32_t>(positions, "positions", "u4", 1);
        const auto* there = checked<float>(values, "values", "f4", 1);
        if (positions.shape(0) != values.shape(0))
            throw py::value_error("positions and values of a dimension differ in length");
        dimensions.push_back({at, there, static_cast<size_t>(positions.shape(0)), weight});
        held.push_back(positions);
        held.push_back(values);
    }
    Scored scored;
    {
        size_t read = 0;
        for (const Dimension& one : dimensions) read += one.count;
        const LetGo released(read, 32);
        scored = inner_products(dimensions, count, mask, k);
    }
    return as_arrays(std::move(scored));
}

int64_t count_live(const py::array& positions, const py::object& live) {
    const auto* at = checked<uint32_t>(positions, "positions", "u4", 1);
    if (!py::isinstance<py::array>(live)) throw py::value_error("live is not a numpy array");
    const auto rows = static_cast<size_t>(py::reinterpret_borrow<py::array>(live).size());
    const uint8_t* mask = mask_of(live, rows, "live");
    const auto count = static_cast<size_t>(positions.shape(0));
    const LetGo released(count, 8);
    int64_t alive = 0;
    for (size_t i = 0; i < count; ++i) alive += at[i] < rows && mask[at[i]];
    return alive;
}

void check_graph(const HeldGraph& graph) {
    std::string wrong;
    {
        py::gil_scoped_release released;
        wrong = faults(graph.graph);
    }
    if (!wrong.empty()) throw py::value_error("the graph is damaged: " + wrong);
}

}  // namespace
}  // namespace ragmesh

PYBIND11_MODULE(_native, module) {
    using namespace ragmesh;
    using py::arg;
    py::register_exception<Stopped>(module, "Stopped");
    py::class_<HeldRows>(module, "Vectors")
        .def(py::init<py::array, py::object>(), arg("values"), arg("scales") = py::none())
        .def_readonly("values", &HeldRows::values)
        .def_readonly("scales", &HeldRows::scales)
        .def("__len__", [](const HeldRows& self) { return self.rows.count; });
    py::class_<HeldGraph>(module, "GraphArrays")
        .def(py::init<py::array, py::array, py::array, py::array, int64_t, int, py::object>(),
             arg("level0"), arg("levels"), arg("upper"), arg("upper_start"), arg("entry"),
             arg("max_level"), arg("twins") = py::none())
        .def_readonly("level0", &HeldGraph::level0)
        .def_readonly("levels", &HeldGraph::levels)
        .def_readonly("upper", &HeldGraph::upper)
        .def_readonly("upper_start", &HeldGraph::upper_start)
        .def_readonly("twins", &HeldGraph::twins)
        .def_property_readonly("m", [](const HeldGraph& self) { return self.graph.m; })
        .def_property_readonly("entry", [](const HeldGraph& self) { return self.graph.entry; })
        .def_property_readonly("max_level",
                               [](const HeldGraph& self) { return self.graph.max_level; })
        .def("__len__", [](const HeldGraph& self) { return self.graph.count; });
    module.def("build_graph", &build_graph, arg("vectors"), arg("members"), arg("m"),
               arg("ef_construction"), arg("seed"), arg("metric"), arg("base").none(true) = nullptr,
               arg("stop") = py::none());
    module.def("search_graph", &search_graph, arg("graph"), arg("vectors"), arg("query"), arg("k"),
               arg("ef"), arg("metric"), arg("allowed") = py::none(),
               arg("visits_max") = UINT64_MAX, arg("precise").none(true) = nullptr,
               arg("settled") = 0);
    module.def("search_graph_together", &search_graph_together, arg("graph"), arg("vectors"),
               arg("queries"), arg("k"), arg("ef"), arg("metric"), arg("allowed") = py::none(),
               arg("visits_max") = UINT64_MAX, arg("precise").none(true) = nullptr,
               arg("settled") = 0);
    module.def("check_graph", &check_graph, arg("graph"));
    module.def("scan", &scan_rows, arg("vectors"), arg("query"), arg("k"), arg("metric"),
               arg("allowed") = py::none(), arg("positions") = py::none(),
               arg("coarse").none(true) = nullptr);
    module.def("encode_rows", &encode_rows, arg("vectors"));
    module.def("score_rows", &score_rows, arg("vectors"), arg("query"), arg("metric"),
               arg("positions") = py::none());
    module.def("bm25_top", &bm25_top, arg("postings"), arg("lengths"), arg("mean_length"),
               arg("k1"), arg("b"), arg("allowed"), arg("k"));
    module.def("sparse_top", &sparse_top, arg("postings"), arg("count"), arg("allowed"), arg("k"));
    module.def("count_live", &count_live, arg("positions"), arg("live"));
    module.def("instructions", &instructions);
    module.def("use_instructions", [](const std::string& name) {
        if (!use_instructions(name))
            throw py::value_error("this machine does not run '" + name + "'");
    });
}
