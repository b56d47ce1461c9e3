/*
 * import_keras.h
 *		The weights that keras-vggface publishes (rcmalli_vggface_tf_*.h5), as weights of
 *		our networks. Called by `faceattr import-keras`.
 */
#ifndef FA_IMPORT_KERAS_H
#define FA_IMPORT_KERAS_H

#include "../src/nn/weights.h"

/*
 * Reads an HDF5 file that Keras wrote: the network that its layers' names tell, resnet50,
 * senet50 or vgg16, in the form with batch norm apart, in which it trains. Metadata:
 * network, made_by, licence. Every layer of the network must be there, in its shape, of
 * finite values, and none besides, except the classifier of files that have one: it is
 * left out. Errors begin with the path: FA_NOT_FOUND, FA_DAMAGED where the file is not what
 * Keras writes, FA_UNSUPPORTED for another network, FA_INVALID for layers that do not fit.
 * Zeroes *weights first.
 */
extern fa_status fa_import_keras(fa_weights *weights, const char *path, fa_error *error);

#endif
