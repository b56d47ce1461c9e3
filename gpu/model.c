/*
 * model.c
 *		Networks on the device: loading them, and the programs that they become, of which
 *		the engine gives up the one unused for longest when memory is short.
 */
#include "program.h"

#include <stdlib.h>

void
fa_cuda_unload(fa_model *model)
{
	fa_model **link;

	if (model == NULL)
		return;
	for (link = &model->engine->models; *link != NULL; link = &(*link)->next)
		if (*link == model)
		{
			*link = model->next;
			break;
		}
	for (int i = 0; i < FA_GPU_MAX_PROGRAMS; i++)
		fa_gpu_program_free(model, model->programs[i]);
	fa_gpu_weights_free(&model->weights, &model->engine->memory);
	fa_gpu_plan_free(&model->plan);
	fa_net_free(&model->net);
	free(model);
}

size_t
fa_cuda_memory(const fa_model *model)
{
	size_t bytes = model->weights.block.size;

	for (int i = 0; i < FA_GPU_MAX_PROGRAMS; i++)
		if (model->programs[i] != NULL)
			bytes += model->programs[i]->arena.size;
	return bytes;
}

fa_status
fa_gpu_model_make(fa_engine *engine, const fa_net *net, const fa_weights *weights,
				  const void *packed, size_t size, fa_precision precision, fa_model **model,
				  fa_error *error)
{
	fa_model *made = calloc(1, sizeof(fa_model));
	fa_status status;

	*model = NULL;
	if (made == NULL)
		return fa_no_memory(error, sizeof(fa_model));
	made->engine = engine;
	made->precision = precision;
	made->type = fa_gpu_type_of(precision);
	status = fa_net_copy(&made->net, net, error);
	if (status == FA_OK)
		status = fa_gpu_plan_make(&made->plan, net, error);
	if (status == FA_OK)
		status = weights != NULL
					 ? fa_gpu_upload(&made->weights, net, &made->plan, weights, made->type,
									 &engine->memory, engine->stream, error)
					 : fa_gpu_upload_packed(&made->weights, net, &made->plan, packed, size,
											made->type, &engine->memory, engine->stream, error);
	if (status != FA_OK)
	{
		fa_cuda_unload(made);
		return status;
	}
	made->next = engine->models;
	engine->models = *model = made;
	return FA_OK;
}

fa_status
fa_cuda_load_model(fa_engine *engine, const fa_net *net, const fa_weights *weights,
				   fa_precision precision, fa_model **model, fa_error *error)
{
	*model = NULL;
	FA_TRY(fa_cuda_resolve_precision(engine, precision, &precision, error));
	FA_TRY(fa_weights_match(weights, net, true, error));
	return fa_gpu_model_make(engine, net, weights, NULL, 0, precision, model, error);
}

/* --- Programs ------------------------------------------------------------------------- */

fa_gpu_program *
fa_gpu_find_program(fa_model *model, int count, int height, int width)
{
	for (int i = 0; i < FA_GPU_MAX_PROGRAMS; i++)
	{
		fa_gpu_program *p = model->programs[i];

		if (p != NULL && p->count == count && p->height == height && p->width == width)
		{
			p->last_use = ++model->engine->clock;
			return p;
		}
	}
	return NULL;
}

fa_status
fa_gpu_add_program(fa_model *model, int count, int height, int width, const fa_interrupt *interrupt,
				   fa_gpu_program **added, fa_error *error)
{
	fa_gpu_program **slot = &model->programs[0];

	for (int i = 0; i < FA_GPU_MAX_PROGRAMS; i++)
		if (*slot != NULL &&
			(model->programs[i] == NULL || model->programs[i]->last_use < (*slot)->last_use))
			slot = &model->programs[i];
	/* first, so that the memory of both is never needed */
	fa_gpu_program_free(model, *slot);
	*slot = NULL;
	FA_TRY(fa_gpu_program_make(model, count, height, width, interrupt, slot, error));
	(*slot)->last_use = ++model->engine->clock;
	*added = *slot;
	return FA_OK;
}

bool
fa_gpu_make_room(void *engine)
{
	fa_gpu_program **oldest = NULL;
	fa_model *owner = NULL;

	for (fa_model *m = ((fa_engine *) engine)->models; m != NULL; m = m->next)
		for (int i = 0; i < FA_GPU_MAX_PROGRAMS; i++)
			if (m->programs[i] != NULL &&
				(oldest == NULL || m->programs[i]->last_use < (*oldest)->last_use))
			{
				oldest = &m->programs[i];
				owner = m;
			}
	if (oldest == NULL)
		return false;
	fa_gpu_program_free(owner, *oldest);
	*oldest = NULL;
	return true;
}
