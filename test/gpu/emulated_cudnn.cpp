/*
 * emulated_cudnn.cpp
 *		The part of cuDNN's backend API that the engine uses, on the emulated device: an
 *		interpreter of convolutions and pointwise operations, which are done by
 *		emulated_convolutions.cpp; see emulation.h.
 *
 * It is as strict as the documentation: attributes are set before a descriptor is finalised
 * and read after, all parts must be alive and finalised, and every address must be the
 * device's, aligned and not shared with the result.
 */
#include "emulated_cudnn.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <set>

struct cudnnContext
{
	cudaStream_t stream;
};

struct attribute
{
	cudnnBackendAttributeType_t type;
	int64_t count;
	std::vector<char> bytes;
};

struct descriptor
{
	cudnnBackendDescriptorType_t type;
	bool finalised = false;
	int number = 0; /* in the order of finalising */
	std::map<int, attribute> attributes;
	std::shared_ptr<operation_graph> graph; /* of graphs, configurations, engines and plans */
	engine_kind engine = PLAIN;
};

static std::set<descriptor *> descriptors;
static std::set<cudnnHandle_t> handles;
static int plans = EMULATED_ALL;
static bool spoil;
static cudnnStatus_t refusal = CUDNN_STATUS_SUCCESS;
static int refused; /* a type of descriptors */
static int finalisations;

void
emulated_plans(int which)
{
	plans = which;
}

void
emulated_spoil_plans(int now)
{
	spoil = now;
}

void
emulated_refuse(int type, int status)
{
	refused = type;
	refusal = (cudnnStatus_t) status;
}

#define CALL(result)                                                                               \
	if (emulated_fails(__func__))                                                                  \
	return result

/* --- Handles and descriptors ------------------------------------------------------------- */

cudnnStatus_t
cudnnCreate(cudnnHandle_t *handle)
{
	CALL(CUDNN_STATUS_NOT_INITIALIZED);
	*handle = new cudnnContext{nullptr};
	handles.insert(*handle);
	emulated_count(1);
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t
cudnnDestroy(cudnnHandle_t handle)
{
	bool fails = emulated_fails(__func__);

	if (handles.erase(handle) == 0)
		emulated_complain("a handle is destroyed that is not there");
	delete handle;
	emulated_count(-1);
	return fails ? CUDNN_STATUS_EXECUTION_FAILED : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t
cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
	CALL(CUDNN_STATUS_BAD_PARAM);
	handle->stream = stream;
	return CUDNN_STATUS_SUCCESS;
}

size_t
cudnnGetVersion()
{
	return CUDNN_VERSION;
}

const char *
cudnnGetErrorString(cudnnStatus_t)
{
	return "CUDNN_STATUS_EMULATED";
}

void
cudnnGetLastErrorString(char *message, size_t size)
{
	snprintf(message, size, "words for an emulated failure");
}

static descriptor *
alive(cudnnBackendDescriptor_t given)
{
	if (descriptors.count((descriptor *) given) == 0)
		emulated_complain("a descriptor that is not there");
	return (descriptor *) given;
}

static descriptor *
finalised(cudnnBackendDescriptor_t given, cudnnBackendDescriptorType_t type)
{
	descriptor *d = alive(given);

	if (d->type != type || !d->finalised)
		emulated_complain("a descriptor of type %d where a finalised one of type %d belongs",
						  d->type, type);
	return d;
}

cudnnStatus_t
cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *to)
{
	CALL(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED);
	descriptor *d = new descriptor;
	d->type = type;
	descriptors.insert(d);
	emulated_count(1);
	*to = d;
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t
cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t given)
{
	bool fails = emulated_fails(__func__);
	descriptor *d = alive(given);

	descriptors.erase(d);
	delete d;
	emulated_count(-1);
	return fails ? CUDNN_STATUS_INTERNAL_ERROR : CUDNN_STATUS_SUCCESS;
}

static size_t
size_of(cudnnBackendAttributeType_t type)
{
	switch (type)
	{
		case CUDNN_TYPE_BOOLEAN:
			return sizeof(bool);
		case CUDNN_TYPE_INT64:
			return sizeof(int64_t);
		case CUDNN_TYPE_DOUBLE:
			return sizeof(double);
		case CUDNN_TYPE_HANDLE:
		case CUDNN_TYPE_VOID_PTR:
		case CUDNN_TYPE_BACKEND_DESCRIPTOR:
			return sizeof(void *);
		case CUDNN_TYPE_DATA_TYPE:
		case CUDNN_TYPE_CONVOLUTION_MODE:
		case CUDNN_TYPE_HEUR_MODE:
		case CUDNN_TYPE_POINTWISE_MODE:
		case CUDNN_TYPE_KNOB_TYPE:
			return sizeof(int);
		default:
			emulated_complain("an attribute's type that is not emulated: %d", type);
	}
}

cudnnStatus_t
cudnnBackendSetAttribute(cudnnBackendDescriptor_t given, cudnnBackendAttributeName_t name,
						 cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
	CALL(CUDNN_STATUS_BAD_PARAM);
	descriptor *d = alive(given);

	if (d->finalised)
		emulated_complain("attribute %d is set after finalising", name);
	d->attributes[name] = {
		type, count,
		std::vector<char>((const char *) values, (const char *) values + count * size_of(type))};
	return CUDNN_STATUS_SUCCESS;
}

/* The values of an attribute that must be there. */
template <typename V>
static std::vector<V>
values(const descriptor *d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type)
{
	auto found = d->attributes.find(name);

	if (found == d->attributes.end() || found->second.type != type)
		emulated_complain("attribute %d is missing or of another type", name);
	std::vector<V> all(found->second.count);
	if (!all.empty())
		memcpy(all.data(), found->second.bytes.data(), found->second.bytes.size());
	return all;
}

template <typename V>
static void
must_have(const descriptor *d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type)
{
	if (values<V>(d, name, type).empty())
		emulated_complain("attribute %d has no value", name);
}

static descriptor *
part(const descriptor *d, cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type)
{
	return finalised(values<cudnnBackendDescriptor_t>(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR).at(0),
					 type);
}

/* --- What descriptors say ------------------------------------------------------------------ */

static tensor
tensor_of(const descriptor *owner, cudnnBackendAttributeName_t name)
{
	const descriptor *d = part(owner, name, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
	auto size = values<int64_t>(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64);
	auto stride = values<int64_t>(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64);
	tensor t;

	t.id = values<int64_t>(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64).at(0);
	t.type =
		(cudnnDataType_t) values<int>(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE).at(0);
	t.is_virtual = values<char>(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN).at(0);
	if (values<int64_t>(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64).at(0) != 16)
		emulated_complain("a tensor that is not aligned to 16 bytes");
	for (int i = 0; i < 4; i++)
	{
		t.size[i] = size.at(i);
		t.stride[i] = stride.at(i);
	}
	if (t.size[1] % 8 != 0)
		emulated_complain("tensor %ld has %ld channels", (long) t.id, (long) t.size[1]);
	if (t.stride[1] != 1 || t.stride[3] != t.size[1] || t.stride[2] != t.size[1] * t.size[3] ||
		t.stride[0] != (int64_t) t.count() / t.size[0])
		emulated_complain("tensor %ld is not NHWC", (long) t.id);
	return t;
}

/* The names of a convolution's parts, by its type of descriptor. */
struct convolution_names
{
	cudnnBackendDescriptorType_t type;
	cudnnBackendAttributeName_t description, x, w, y, alpha, beta;
};

static const convolution_names convolutions[] = {
	{CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
	 CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
	 CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
	 CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
	{CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
	 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
	 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
	 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
	 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
	{CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
	 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
	 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
	 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
	 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
	 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}};

/* NULL: it is none. */
static const convolution_names *
names_of(cudnnBackendDescriptorType_t type)
{
	for (const convolution_names &names : convolutions)
		if (names.type == type)
			return &names;
	return nullptr;
}

static operation
convolution_of(const descriptor *d, const convolution_names *names)
{
	const descriptor *c = part(d, names->description, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
	auto begin = values<int64_t>(c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64);
	auto end = values<int64_t>(c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64);
	auto stride = values<int64_t>(c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64);
	auto dilation = values<int64_t>(c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64);
	tensor x = tensor_of(d, names->x), w = tensor_of(d, names->w), y = tensor_of(d, names->y);
	operation o = {};

	if (values<int>(c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE).at(0) !=
			CUDNN_CROSS_CORRELATION ||
		values<int>(c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE).at(0) !=
			CUDNN_DATA_FLOAT ||
		values<int64_t>(c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64).at(0) != 2 ||
		values<double>(d, names->alpha, CUDNN_TYPE_DOUBLE).at(0) != 1 ||
		values<double>(d, names->beta, CUDNN_TYPE_DOUBLE).at(0) != 0)
		emulated_complain("a convolution of a kind that is not emulated");
	if (x.size[0] != y.size[0] || x.size[1] != w.size[1] || y.size[1] != w.size[0])
		emulated_complain("a convolution whose tensors do not go together");
	for (int i = 0; i < 2; i++)
	{
		o.begin[i] = begin.at(i);
		o.end[i] = end.at(i);
		o.stride[i] = stride.at(i);
		if (dilation.at(i) != 1 ||
			(x.size[2 + i] + o.begin[i] + o.end[i] - w.size[2 + i]) / o.stride[i] + 1 !=
				y.size[2 + i])
			emulated_complain("a convolution of %ld makes no %ld", (long) x.size[2 + i],
							  (long) y.size[2 + i]);
	}
	o.convolves = true;
	o.direction = (int) (names - convolutions);
	/* x and other are what is read, y what is written */
	o.x = names == &convolutions[1] ? y : x;
	o.other = names == &convolutions[2] ? y : w;
	o.y = names == &convolutions[1] ? x : names == &convolutions[2] ? w : y;
	return o;
}

static operation
pointwise_of(const descriptor *d)
{
	const descriptor *p =
		part(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
	operation o = {};

	o.mode =
		(cudnnPointwiseMode_t) values<int>(p, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE)
			.at(0);
	if (values<int>(p, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE).at(0) !=
		CUDNN_DATA_FLOAT)
		emulated_complain("a pointwise operation that is not in fp32");
	o.clip = p->attributes.count(CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP)
				 ? values<double>(p, CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, CUDNN_TYPE_DOUBLE).at(0)
				 : 0;
	o.x = tensor_of(d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
	o.y = tensor_of(d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
	if (o.mode == CUDNN_POINTWISE_ADD)
	{
		o.other = tensor_of(d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
		for (int i = 0; i < 4; i++)
			if (o.other.size[i] != o.y.size[i] && o.other.size[i] != 1)
				emulated_complain("a sum of tensors that do not go together");
	}
	return o;
}

static void
make_graph(descriptor *d)
{
	d->graph.reset(new operation_graph);
	d->graph->handle =
		values<cudnnHandle_t>(d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE).at(0);
	for (auto given : values<cudnnBackendDescriptor_t>(d, CUDNN_ATTR_OPERATIONGRAPH_OPS,
													   CUDNN_TYPE_BACKEND_DESCRIPTOR))
	{
		const descriptor *o = alive(given);

		if (names_of(o->type) != nullptr)
			d->graph->operations.push_back(
				convolution_of(finalised(given, o->type), names_of(o->type)));
		else
			d->graph->operations.push_back(
				pointwise_of(finalised(given, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)));
	}
}

/* Every engine has one knob, whose value is 7. */
#define KNOB CUDNN_KNOB_TYPE_STAGES
#define KNOB_VALUE 7

static bool
right_knob(const descriptor *d)
{
	return values<int>(d, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE).at(0) == KNOB &&
		   values<int64_t>(d, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64).at(0) ==
			   KNOB_VALUE;
}

cudnnStatus_t
cudnnBackendFinalize(cudnnBackendDescriptor_t given)
{
	CALL(CUDNN_STATUS_BAD_PARAM);
	descriptor *d = alive(given);
	const descriptor *of;
	int64_t index;

	if (d->finalised)
		emulated_complain("a descriptor is finalised twice");
	if (refusal != CUDNN_STATUS_SUCCESS && d->type == refused)
		return refusal;
	switch (d->type)
	{
		case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
		case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
		case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
			convolution_of(d, names_of(d->type));
			break;
		case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
			pointwise_of(d);
			break;
		case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
			make_graph(d);
			break;
		case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
			of = part(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH,
					  CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
			must_have<int>(d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE);
			d->graph = of->graph;
			if (plans == EMULATED_NONE ||
				(plans == EMULATED_UNFUSED && d->graph->operations.size() > 1))
				return CUDNN_STATUS_NOT_SUPPORTED;
			break;
		case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
			of =
				part(d, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
			d->graph = of->graph;
			index = values<int64_t>(d, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64).at(0);
			if (index < 0 || index > PLAIN)
				return CUDNN_STATUS_NOT_SUPPORTED;
			d->engine = (engine_kind) index;
			break;
		case CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR:
			must_have<int>(d, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE);
			must_have<int64_t>(d, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64);
			break;
		case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
			of = part(d, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
			d->graph = of->graph;
			d->engine = of->engine;
			for (auto knob : values<cudnnBackendDescriptor_t>(d, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
															  CUDNN_TYPE_BACKEND_DESCRIPTOR))
				if (!right_knob(finalised(knob, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)))
					return CUDNN_STATUS_NOT_SUPPORTED;
			break;
		case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
			of = part(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
					  CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
			if (values<cudnnHandle_t>(d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE)
					.at(0) != of->graph->handle)
				emulated_complain("a plan for another handle than its graph's");
			if (of->engine == NONDETERMINISTIC)
				emulated_complain("an engine is chosen that is not deterministic");
			if (spoil && of->engine == TENSOR_CORES)
				return CUDNN_STATUS_INTERNAL_ERROR_COMPILATION_FAILED;
			d->graph = of->graph;
			d->engine = of->engine;
			break;
		default:
			break;
	}
	d->finalised = true;
	d->number = ++finalisations;
	return CUDNN_STATUS_SUCCESS;
}

void *
emulated_latest(int type)
{
	descriptor *latest = nullptr;

	for (descriptor *d : descriptors)
		if ((int) d->type == type && d->number > (latest == nullptr ? 0 : latest->number))
			latest = d;
	return latest;
}

/* What heuristics offer, best first: mode A all, or, for EMULATED_FALLBACK, all but the last. */
static std::vector<int>
offered(const descriptor *heuristics)
{
	int mode = values<int>(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE).at(0);

	if (plans != EMULATED_FALLBACK)
		return {NONDETERMINISTIC, TENSOR_CORES, PLAIN};
	if (mode == CUDNN_HEUR_MODE_FALLBACK)
		return {PLAIN};
	return {NONDETERMINISTIC, TENSOR_CORES};
}

cudnnStatus_t
cudnnBackendGetAttribute(cudnnBackendDescriptor_t const given, cudnnBackendAttributeName_t name,
						 cudnnBackendAttributeType_t, int64_t wanted, int64_t *count, void *values)
{
	CALL(CUDNN_STATUS_BAD_PARAM);
	const descriptor *d = alive(given);
	descriptor *to;

	if (!d->finalised)
		emulated_complain("attribute %d is asked for before finalising", name);
	*count = 1;
	switch (name)
	{
		case CUDNN_ATTR_ENGINEHEUR_RESULTS:
			*count = 0;
			for (int engine : offered(d))
				if (*count < wanted)
				{
					to = alive(((cudnnBackendDescriptor_t *) values)[(*count)++]);
					to->graph = d->graph;
					to->engine = (engine_kind) engine;
					to->finalised = true;
				}
			break;
		case CUDNN_ATTR_ENGINECFG_ENGINE:
			to = alive(*(cudnnBackendDescriptor_t *) values);
			to->graph = d->graph;
			to->engine = d->engine;
			to->finalised = true;
			break;
		case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
			*(int64_t *) values = d->engine;
			break;
		case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:
			alive(*(cudnnBackendDescriptor_t *) values)->finalised = true;
			break;
		case CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE:
			*(cudnnBackendKnobType_t *) values = KNOB;
			break;
		case CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE:
			*(int64_t *) values = KNOB_VALUE;
			break;
		case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
			*count = d->engine != PLAIN;
			if (d->engine != PLAIN)
				*(cudnnBackendNumericalNote_t *) values =
					d->engine == TENSOR_CORES ? CUDNN_NUMERICAL_NOTE_TENSOR_CORE
											  : CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
			break;
		case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
			*(int64_t *) values = WORKSPACE;
			break;
		default:
			emulated_complain("an attribute that is not emulated: %d", name);
	}
	return CUDNN_STATUS_SUCCESS;
}

/* --- Execution ------------------------------------------------------------------------------ */

/* The addresses of a pack, checked against the graph's tensors. */
static tensor_addresses
addresses_of(const descriptor *pack, const operation_graph &graph)
{
	auto ids = values<int64_t>(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64);
	auto given = values<void *>(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR);
	const tensor &result = graph.operations.back().y;
	tensor_addresses addresses;
	char *out, *in;

	for (size_t i = 0; i < ids.size(); i++)
		addresses[ids[i]] = given.at(i);
	if (result.is_virtual || addresses.count(result.id) == 0)
		emulated_complain("a graph without a result");
	out = (char *) addresses[result.id];
	for (const operation &o : graph.operations)
		for (const tensor *t : {&o.x, &o.other, &o.y})
		{
			if (t->count() == 0 || t->is_virtual)
				continue;
			if (addresses.count(t->id) == 0)
				emulated_complain("tensor %ld has no address", (long) t->id);
			in = (char *) addresses[t->id];
			emulated_check(in, bytes_of(*t), 16, "a tensor");
			if (t->id != result.id && in < out + bytes_of(result) && out < in + bytes_of(*t))
				emulated_complain("tensor %ld overlaps the result", (long) t->id);
		}
	return addresses;
}

cudnnStatus_t
cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan_given,
					cudnnBackendDescriptor_t pack_given)
{
	CALL(CUDNN_STATUS_EXECUTION_FAILED);
	descriptor *plan = finalised(plan_given, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
	descriptor *pack = finalised(pack_given, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
	std::shared_ptr<operation_graph> graph = plan->graph;
	tensor_addresses addresses = addresses_of(pack, *graph);
	void *workspace =
		values<void *>(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR).at(0);
	engine_kind engine = plan->engine;

	if (handles.count(handle) == 0 || handle != graph->handle)
		emulated_complain("a plan is run on another handle");
	emulated_check(workspace, WORKSPACE, 16, "a workspace");
	emulated_queue(handle->stream, [=] { execute(*graph, engine, addresses, workspace); });
	return CUDNN_STATUS_SUCCESS;
}
