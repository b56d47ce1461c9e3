/*
 * networks.h
 *		The classifiers, by name: each a backbone whose features are the output
 *		"embedding", and heads on it. Called by whoever has a model's metadata or a
 *		user's choice; nothing else knows which networks there are.
 *
 * Layers are named as Keras names them in the published weights, so that a layer that
 * is to be frozen is called here what it is called there.
 */
#ifndef FA_NETWORKS_H
#define FA_NETWORKS_H

#include "net.h"

/* A head: a dense layer of logits. */
typedef struct fa_head
{
	char name[FA_NAME_LENGTH]; /* output name: "age", "gender", "race", "face" */
	int classes;
} fa_head;

/*
 * All take the same: after the backbone, one hidden dense layer of `hidden` with ReLU
 * (0: none) and the heads' dense layers on it. Outputs: "embedding" and one of logits for
 * each head. batch_norm: convolutions without bias followed by batch norm, as
 * trained; else with bias, batch norm folded (fold.h). dropout: rate before hidden and
 * heads. FA_INVALID where a head has the name of a layer.
 */
typedef fa_status fa_network_builder(fa_net *net, const fa_head *heads, int head_count, int hidden,
									 bool batch_norm, float dropout, fa_error *error);

/*
 * MobileNet v1 (Howard et al. 2017), width 1, ReLU6, TensorFlow's SAME padding, BGR minus
 * the mean that its VGGFace2 weights were trained with. 1,024 features.
 */
extern fa_network_builder fa_net_mobilenet_v1;

/*
 * ResNet-50 (He et al. 2016) and SE-ResNet-50 (Hu et al. 2018) of VGGFace2 (Cao et al.
 * 2018) in keras-vggface's form: a block's stride is in its first convolution, pooling
 * takes no padding, the epsilon of batch norm is 1e-3 in the one, 1e-4 in the other. BGR
 * minus VGGFace2's mean. 2,048 features, the average over the last map: Keras' 7 x 7
 * average, which is all of that map for inputs of 193 to 224.
 */
extern fa_network_builder fa_net_resnet50, fa_net_senet50;

/*
 * VGG-16 (Simonyan, Zisserman 2015) of VGGFace (Parkhi et al. 2015) up to pool5, then the
 * average over the map: 512 features. BGR minus VGGFace's mean. No batch norm at all.
 */
extern fa_network_builder fa_net_vgg16;

/* Builds the network of that name; FA_NOT_FOUND says which there are. */
extern fa_status fa_net_by_name(const char *name, fa_net *net, const fa_head *heads, int head_count,
								int hidden, bool batch_norm, float dropout, fa_error *error);
/* "mobilenet_v1, resnet50, ..." */
extern const char *const fa_network_names;

/* For the builders: what follows the backbone's features, and the end of building. */
extern fa_status fa_net_heads(fa_net *net, int features, const fa_head *heads, int head_count,
							  int hidden, float dropout, fa_error *error);

#endif
